import { expect, test } from "vitest";
import { bfloat16, float16, float32 } from "../../src/base/dtype.ts";
import { type RopeByLength, rope } from "../../src/kernels/rope/rope.ts";
import { ropeFrequencies } from "../../src/nn/rope-frequencies.ts";
import {
  bits,
  describeGpu,
  output,
  randomArray,
  relativeL2,
  roundingTolerance,
  toNumbers,
  upload,
} from "../support/gpu.ts";
import { rotateReference } from "./rotate-reference.ts";

const shapes: readonly (readonly [heads: number, headDim: number, rotaryDim: number])[] = [
  [1, 64, 64],
  [40, 128, 128],
  [9, 80, 80],
  [8, 80, 32],
  [5, 96, 48],
  [17, 256, 256],
  [3, 6, 6],
  [2, 10, 4],
  [2, 8, 0],
];
const far = [0, 1, 2, 100, 4095, 8191, 32768, 131071, 524287, 1048575];

describeGpu("rope", (device) => {
  for (const dtype of [float32, float16, bfloat16]) {
    for (const [heads, headDim, rotaryDim] of shapes) {
      const { frequencies } = ropeFrequencies({ type: "default", theta: 500000 }, rotaryDim);
      const positions = Int32Array.from(far);
      const tokens = positions.length;
      const angles = { attentionScale: 1.25, rotaryDim };
      const name = `${dtype.short}, ${heads} heads of ${headDim}, ${rotaryDim} rotated`;

      test(`in place, far positions, against float64: ${name}`, () => {
        const x = randomArray(dtype, tokens * heads * headDim, heads);
        const out = output(device, dtype, x.length, x);
        rope(device.stream, {
          ...angles,
          positions: upload(device, positions),
          frequencies: upload(device, frequencies),
          out: out.ptr,
          x: out.ptr,
          tokens,
          heads,
          headDim,
          dtype,
        });
        const row = heads * headDim;
        const expected = rotateReference(toNumbers(dtype, x), {
          ...angles,
          positions,
          frequencies,
          heads,
          headDim,
          row,
        });
        expect(relativeL2(out.numbers(), expected)).toBeLessThan(roundingTolerance(dtype));
      });

      test(`between strided rows gives the same bits, and touches nothing else: ${name}`, () => {
        const row = heads * headDim;
        const [stride, outStride] = [row + 24, row + 40];
        const x = randomArray(dtype, tokens * stride, heads + 1);
        const packed = dtype.array(tokens * row);
        for (let t = 0; t < tokens; t++) packed.set(x.subarray(t * stride, t * stride + row) as never, t * row);
        const inPlace = output(device, dtype, packed.length, packed);
        const out = output(device, dtype, tokens * outStride);
        const untouched = out.stored();
        const p = {
          ...angles,
          positions: upload(device, positions),
          frequencies: upload(device, frequencies),
          tokens,
          heads,
          headDim,
          dtype,
        };
        rope(device.stream, { ...p, out: inPlace.ptr, x: inPlace.ptr });
        rope(device.stream, { ...p, out: out.ptr, outStride, x: upload(device, x), stride });
        const expected = untouched.slice();
        const turned = inPlace.stored();
        for (let t = 0; t < tokens; t++) expected.set(turned.subarray(t * row, t * row + row) as never, t * outStride);
        expect(bits(out.stored())).toEqual(bits(expected));
      });
    }
  }

  test("dynamic frequencies follow each sequence's own context length", () => {
    const [heads, headDim] = [2, 64];
    const { frequencies, byLength: rule } = ropeFrequencies(
      { type: "dynamic", theta: 10000, factor: 2, originalMaxPositions: 100 },
      headDim,
    );
    // Within the trained context, at its end, past it, without new tokens, and far past it.
    const lengths = [50, 100, 101, 4000, 9000];
    const starts = [0, 3, 5, 8, 8, 12];
    const positions = Int32Array.of(47, 48, 49, 98, 99, 98, 99, 100, 8996, 8997, 8998, 8999);
    const sequenceOf = [0, 0, 0, 1, 1, 2, 2, 2, 4, 4, 4, 4];
    const x = randomArray(float32, positions.length * heads * headDim, 9);
    const out = output(device, float32, x.length, x);
    const byLength: RopeByLength = {
      ...rule!,
      queryStarts: upload(device, Int32Array.from(starts)),
      sequenceLengths: upload(device, Int32Array.from(lengths)),
      sequences: lengths.length,
    };
    rope(device.stream, {
      out: out.ptr,
      x: out.ptr,
      positions: upload(device, positions),
      frequencies: upload(device, frequencies),
      attentionScale: 1,
      rotaryDim: headDim,
      byLength,
      tokens: positions.length,
      heads,
      headDim,
      dtype: float32,
    });
    const expected = rotateReference(toNumbers(float32, x), {
      positions,
      frequencies,
      attentionScale: 1,
      rotaryDim: headDim,
      heads,
      headDim,
      row: heads * headDim,
      byLength: { ...rule!, lengthOf: (t) => lengths[sequenceOf[t]!]! },
    });
    expect(relativeL2(out.numbers(), expected)).toBeLessThan(roundingTolerance(float32));
  });
});
