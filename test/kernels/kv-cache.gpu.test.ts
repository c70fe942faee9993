import { expect, test } from "vitest";
import { bfloat16, type DType, float16, float32, type HostArray } from "../../src/base/dtype.ts";
import { encodeArray } from "../../src/base/element.ts";
import { ptrAdd } from "../../src/driver/api.ts";
import type { Device } from "../../src/driver/device.ts";
import { cacheBlockTokens, ropeStore, storeKeysAndValues } from "../../src/kernels/kv-cache/kv-cache.ts";
import { rope } from "../../src/kernels/rope/rope.ts";
import { ropeFrequencies } from "../../src/nn/rope-frequencies.ts";
import {
  bits,
  describeGpu,
  normals,
  output,
  randomArray,
  relativeL2,
  roundingTolerance,
  toNumbers,
  upload,
} from "../support/gpu.ts";
import { rotateReference } from "./rotate-reference.ts";

interface Shape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly rotaryDim: number;
}
const shapes: readonly Shape[] = [
  { heads: 32, kvHeads: 8, headDim: 128, rotaryDim: 128 },
  { heads: 4, kvHeads: 2, headDim: 64, rotaryDim: 64 },
  { heads: 3, kvHeads: 1, headDim: 80, rotaryDim: 32 },
  { heads: 7, kvHeads: 1, headDim: 256, rotaryDim: 256 },
  { heads: 2, kvHeads: 2, headDim: 6, rotaryDim: 4 },
];
const blocks = 5;
/** Out of order, at the ends of blocks, in the last slot, and two that are not stored. */
const slots = Int32Array.of(33, -1, 0, 15, 16, blocks * cacheBlockTokens - 1, -1, 47, 1);
const tokens = slots.length;

/** Rows of a fused projection: queries, keys, values. */
function parts(s: Shape, dtype: DType) {
  const key = s.heads * s.headDim;
  const value = key + s.kvHeads * s.headDim;
  const row = value + s.kvHeads * s.headDim;
  return { key, value, row, keyBytes: key * dtype.bytes, valueBytes: value * dtype.bytes };
}

/** Heads divided by their root mean square and multiplied by weight + offset, in float64: [T, row], `from` the first. */
function normalized(
  x: Float64Array,
  weight: Float64Array,
  p: { row: number; from: number; heads: number; offset: number },
) {
  const out = x.slice();
  for (let t = 0; t < tokens; t++) {
    for (let h = 0; h < p.heads; h++) {
      const at = t * p.row + p.from + h * weight.length;
      const mean = x.subarray(at, at + weight.length).reduce((sum, v) => sum + v * v, 0) / weight.length;
      weight.forEach((w, i) => {
        out[at + i] = (x[at + i]! / Math.sqrt(mean + eps)) * (w + p.offset);
      });
    }
  }
  return out;
}
const eps = 1e-3; // large enough to see that it is added

/** What a cache holds after one of the rows' parts was stored: `before` elsewhere. */
function stored(before: HostArray, rows: HostArray, s: Shape, row: number, part: number): HostArray {
  const cache = before.slice();
  slots.forEach((slot, t) => {
    for (let g = 0; slot >= 0 && g < s.kvHeads; g++) {
      const block = Math.floor(slot / cacheBlockTokens);
      const at = ((block * s.kvHeads + g) * cacheBlockTokens + (slot % cacheBlockTokens)) * s.headDim;
      const from = t * row + part + g * s.headDim;
      cache.set(rows.subarray(from, from + s.headDim) as never, at);
    }
  });
  return cache;
}

function setUp(device: Device, s: Shape, dtype: DType) {
  const at = parts(s, dtype);
  const rows = randomArray(dtype, tokens * at.row, s.headDim);
  const size = blocks * s.kvHeads * cacheBlockTokens * s.headDim;
  const fused = output(device, dtype, rows.length, rows);
  const keyCache = output(device, dtype, size);
  const valueCache = output(device, dtype, size);
  const positions = upload(
    device,
    Int32Array.from(slots, (_, t) => t * 1000),
  );
  const { frequencies } = ropeFrequencies({ type: "default", theta: 10000 }, s.rotaryDim);
  const angles = { positions, frequencies: upload(device, frequencies), attentionScale: 1, rotaryDim: s.rotaryDim };
  const store = {
    key: ptrAdd(fused.ptr, at.keyBytes),
    value: ptrAdd(fused.ptr, at.valueBytes),
    keyStride: at.row,
    valueStride: at.row,
    keyCache: keyCache.ptr,
    valueCache: valueCache.ptr,
    slots: upload(device, slots),
    tokens,
    kvHeads: s.kvHeads,
    headDim: s.headDim,
    dtype,
  };
  return { at, rows, fused, keyCache, valueCache, angles, store, poisonedCache: keyCache.stored() };
}

/** Poison, which is where nothing was stored, as 0. */
const known = (x: number) => (Number.isNaN(x) ? 0 : x);

describeGpu("paged cache", (device) => {
  for (const dtype of [float32, float16, bfloat16]) {
    for (const s of shapes) {
      const name = `${dtype.short}, ${s.heads} and ${s.kvHeads} heads of ${s.headDim}, ${s.rotaryDim} rotated`;

      test(`ropeStore equals rope and a copy, bit for bit: ${name}`, () => {
        const { at, rows, fused, keyCache, valueCache, angles, store, poisonedCache } = setUp(device, s, dtype);
        const turned = output(device, dtype, rows.length, rows);
        const heads = s.heads + s.kvHeads;
        rope(device.stream, {
          ...angles,
          ...store,
          out: turned.ptr,
          x: turned.ptr,
          outStride: at.row,
          stride: at.row,
          heads,
        });
        ropeStore(device.stream, { ...store, ...angles, query: fused.ptr, queryStride: at.row, heads: s.heads });

        const both = turned.stored();
        const expected = rows.slice();
        for (let t = 0; t < tokens; t++) {
          expected.set(both.subarray(t * at.row, t * at.row + at.key) as never, t * at.row);
        }
        expect(bits(fused.stored())).toEqual(bits(expected)); // queries turned, keys and values as they were
        expect(bits(keyCache.stored())).toEqual(bits(stored(poisonedCache, both, s, at.row, at.key)));
        expect(bits(valueCache.stored())).toEqual(bits(stored(poisonedCache, rows, s, at.row, at.value)));
      });

      test.each([0, 1])(`heads are normalised before they turn, weights + %i: ${name}`, (weightOffset) => {
        const { at, rows, fused, keyCache, valueCache, angles, store, poisonedCache } = setUp(device, s, dtype);
        const [query, key] = [21, 22].map((seed) => encodeArray(dtype, normals(s.headDim, seed)));
        const norm = { query: upload(device, query!), key: upload(device, key!), eps, weightOffset };
        ropeStore(device.stream, { ...store, ...angles, query: fused.ptr, queryStride: at.row, heads: s.heads, norm });

        const ofQueries = { row: at.row, from: 0, heads: s.heads, offset: weightOffset };
        const ofKeys = { ...ofQueries, from: at.key, heads: s.kvHeads };
        const normed = normalized(
          normalized(toNumbers(dtype, rows), toNumbers(dtype, query!), ofQueries),
          toNumbers(dtype, key!),
          ofKeys,
        );
        const turned = rotateReference(normed, {
          ...s,
          positions: Int32Array.from(slots, (_, t) => t * 1000),
          frequencies: ropeFrequencies({ type: "default", theta: 10000 }, s.rotaryDim).frequencies,
          attentionScale: 1,
          heads: s.heads + s.kvHeads,
          row: at.row,
        });
        // One rounding at the end; float32 sums, angles and roots before it.
        const tolerance = roundingTolerance(dtype, dtype === float32 ? 8 : 1);
        const after = toNumbers(dtype, fused.stored());
        const keys = toNumbers(dtype, keyCache.stored());
        for (let t = 0; t < tokens; t++) {
          const own = turned.subarray(t * at.row, t * at.row + at.key);
          expect(relativeL2(after.subarray(t * at.row, t * at.row + at.key), own)).toBeLessThan(tolerance);
          expect(after.slice(t * at.row + at.key, (t + 1) * at.row)).toEqual(
            toNumbers(dtype, rows).slice(t * at.row + at.key, (t + 1) * at.row),
          );
        }
        const expectedKeys = toNumbers(dtype, stored(poisonedCache, encodeArray(dtype, turned), s, at.row, at.key));
        expect(keys.map(Number.isNaN as never)).toEqual(expectedKeys.map(Number.isNaN as never));
        expect(relativeL2(keys.map(known), expectedKeys.map(known))).toBeLessThan(2 * tolerance); // both are rounded
        expect(bits(valueCache.stored())).toEqual(bits(stored(poisonedCache, rows, s, at.row, at.value)));
      });

      test(`queries can go elsewhere: ${name}`, () => {
        const { at, rows, fused, angles, store } = setUp(device, s, dtype);
        const query = { query: fused.ptr, queryStride: at.row, heads: s.heads };
        const out = output(device, dtype, tokens * at.key);
        ropeStore(device.stream, { ...store, ...angles, ...query, queryOut: out.ptr, queryOutStride: at.key });
        expect(bits(fused.stored())).toEqual(bits(rows));
        ropeStore(device.stream, { ...store, ...angles, ...query, settled: true });
        const turned = fused.stored();
        const expected = dtype.array(tokens * at.key);
        for (let t = 0; t < tokens; t++) {
          expected.set(turned.subarray(t * at.row, t * at.row + at.key) as never, t * at.key);
        }
        expect(bits(out.stored())).toEqual(bits(expected));
      });

      test(`storeKeysAndValues copies: ${name}`, () => {
        const { at, rows, fused, keyCache, valueCache, store, poisonedCache } = setUp(device, s, dtype);
        storeKeysAndValues(device.stream, store);
        expect(bits(fused.stored())).toEqual(bits(rows));
        expect(bits(keyCache.stored())).toEqual(bits(stored(poisonedCache, rows, s, at.row, at.key)));
        expect(bits(valueCache.stored())).toEqual(bits(stored(poisonedCache, rows, s, at.row, at.value)));
      });
    }
  }
});
