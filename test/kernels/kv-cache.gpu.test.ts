import { expect, test } from "vitest";
import { bfloat16, type DType, float16, float32, type HostArray } from "../../src/base/dtype.ts";
import { ptrAdd } from "../../src/driver/api.ts";
import type { Device } from "../../src/driver/device.ts";
import { cacheBlockTokens, ropeStore, storeKeysAndValues } from "../../src/kernels/kv-cache/kv-cache.ts";
import { rope } from "../../src/kernels/rope/rope.ts";
import { ropeFrequencies } from "../../src/nn/rope-frequencies.ts";
import { bits, describeGpu, output, randomArray, upload } from "../support/gpu.ts";

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

      test(`queries can go elsewhere: ${name}`, () => {
        const { at, rows, fused, angles, store } = setUp(device, s, dtype);
        const query = { query: fused.ptr, queryStride: at.row, heads: s.heads };
        const out = output(device, dtype, tokens * at.key);
        ropeStore(device.stream, { ...store, ...angles, ...query, queryOut: out.ptr, queryOutStride: at.key });
        expect(bits(fused.stored())).toEqual(bits(rows));
        ropeStore(device.stream, { ...store, ...angles, ...query });
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
