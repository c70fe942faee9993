import { expect, test } from "vitest";
import { bfloat16, float16, float32 } from "../../src/base/dtype.ts";
import { softmax } from "../../src/kernels/softmax/softmax.ts";
import { softmax as reference } from "../reference/softmax.ts";
import { describeGpu, output, randomArray, relativeL2, roundingTolerance, toNumbers, upload } from "../support/gpu.ts";

const inf = Number.POSITIVE_INFINITY;

describeGpu("softmax", (device) => {
  for (const dtype of [float32, float16, bfloat16]) {
    // A warp a row, a block a row, and rows too long for registers.
    for (const [rows, cols] of [
      [1, 1],
      [11, 7],
      [9, 512],
      [3, 513],
      [2, 4096],
      [2, 16384],
      [1, 16385],
      [2, 32000],
      [1, 262144],
    ] as const) {
      test(`${dtype.name} [${rows}, ${cols}] with strides and a scale`, () => {
        const [xStride, outStride] = [cols + 8, cols + 3];
        const x = randomArray(dtype, rows * xStride, cols);
        const xs = toNumbers(dtype, x);
        const out = output(device, dtype, rows * outStride);
        const scale = 0.125;
        softmax(device.stream, { out: out.ptr, x: upload(device, x), rows, cols, xStride, outStride, scale, dtype });
        const got = out.numbers();
        for (let r = 0; r < rows; r++) {
          const row = got.slice(r * outStride, r * outStride + cols);
          const expected = reference(xs.slice(r * xStride, r * xStride + cols), scale);
          // f16: probabilities below 6e-5 are subnormal, spaced 2^-24: an absolute error of half of that each.
          const subnormal = dtype === float16 ? (2 ** -25 * Math.sqrt(cols)) / norm(expected) : 0;
          expect(relativeL2(row, expected)).toBeLessThan(roundingTolerance(dtype) + subnormal);
          const rest = got.slice(r * outStride + cols, (r + 1) * outStride);
          expect(rest.every(Number.isNaN)).toBe(true);
        }
      });
    }
  }

  for (const cols of [40, 1000, 20_000]) {
    test(`-inf, +inf and NaN among ${cols} columns, as PyTorch has it`, () => {
      const rows: [number, number][][] = [
        [[3, -inf]],
        [[3, inf]],
        [[3, Number.NaN]],
        Array.from({ length: cols }, (_, c): [number, number] => [c, -inf]),
        Array.from({ length: cols - 1 }, (_, c): [number, number] => [c, -inf]),
      ];
      const x = randomArray(float32, rows.length * cols, 5) as Float32Array;
      rows.forEach((marks, r) => {
        for (const [c, v] of marks) x[r * cols + c] = v;
      });
      const out = output(device, float32, x.length, x);
      softmax(device.stream, { out: out.ptr, x: out.ptr, rows: rows.length, cols, dtype: float32 });
      const got = out.numbers();
      rows.forEach((_, r) => {
        const expected =
          r === 1
            ? new Float64Array(cols).fill(Number.NaN)
            : reference(Float64Array.from(x.slice(r * cols, (r + 1) * cols)));
        expect(relativeL2(got.slice(r * cols, (r + 1) * cols), expected)).toBeLessThan(roundingTolerance(float32));
      });
    });
  }
});

function norm(x: Float64Array): number {
  let squares = 0;
  for (const v of x) squares += v * v;
  return Math.sqrt(squares);
}
