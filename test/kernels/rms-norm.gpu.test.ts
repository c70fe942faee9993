import { expect, test } from "vitest";
import { bfloat16, float16, float32 } from "../../src/base/dtype.ts";
import { ptrAdd } from "../../src/driver/api.ts";
import { rmsNorm } from "../../src/kernels/rms-norm/rms-norm.ts";
import { rmsNorm as reference } from "../reference/norm.ts";
import { describeGpu, output, randomArray, relativeL2, roundingTolerance, toNumbers, upload } from "../support/gpu.ts";

const eps = 1e-5;

describeGpu("rmsNorm", (device) => {
  for (const dtype of [float32, float16, bfloat16]) {
    // One rounding of the result; float32 sums of up to 20000 squares stay far below the f32 bound.
    const tolerance = roundingTolerance(dtype);
    // One warp a row, with idle lanes and elementwise (5, 65, 300); a block a row; its limit; beyond it.
    for (const [rows, cols] of [
      [1, 1],
      [3, 5],
      [17, 64],
      [9, 65],
      [2, 300],
      [5, 512],
      [3, 520],
      [2, 1023],
      [4, 4096],
      [1, 16384],
      [2, 16392],
      [1, 20001],
    ] as const) {
      test(`${dtype.name} [${rows}, ${cols}], plain and with an addend`, () => {
        const x = randomArray(dtype, rows * cols, cols);
        const w = randomArray(dtype, cols, cols + 1);
        const old = randomArray(dtype, rows * cols, cols + 2);
        const [xs, ws, olds] = [x, w, old].map((a) => toNumbers(dtype, a)) as [
          Float64Array,
          Float64Array,
          Float64Array,
        ];
        const p = { x: upload(device, x), weight: upload(device, w), rows, cols, eps, dtype };

        const plain = output(device, dtype, rows * cols);
        rmsNorm(device.stream, { out: plain.ptr, weightOffset: 1, ...p });
        const got = plain.numbers();

        const sum = output(device, dtype, rows * cols, old);
        rmsNorm(device.stream, { out: sum.ptr, addend: sum.ptr, ...p });
        const gotSum = sum.numbers();

        for (let r = 0; r < rows; r++) {
          const row = (a: Float64Array) => a.slice(r * cols, (r + 1) * cols);
          expect(relativeL2(row(got), reference(row(xs), ws, eps, 1))).toBeLessThan(tolerance);
          const sums = reference(row(xs), ws, eps).map((v, i) => v + olds[r * cols + i]!);
          expect(relativeL2(row(gotSum), sums)).toBeLessThan(tolerance);
        }
      });
    }

    test(`${dtype.name}: normalises heads inside wider rows, in place, and leaves the rest`, () => {
      const [rows, heads, cols, rowStride] = [5, 3, 40, 3 * 40 + 24];
      const x = randomArray(dtype, rows * rowStride, 21);
      const w = randomArray(dtype, cols, 22);
      const buffer = output(device, dtype, rows * rowStride, x);
      rmsNorm(device.stream, {
        out: buffer.ptr,
        x: buffer.ptr,
        weight: upload(device, w),
        rows,
        heads,
        cols,
        xStride: rowStride,
        outStride: rowStride,
        eps,
        dtype,
      });
      const expected = toNumbers(dtype, x);
      const ws = toNumbers(dtype, w);
      for (let r = 0; r < rows; r++) {
        for (let h = 0; h < heads; h++) {
          const at = r * rowStride + h * cols;
          expected.set(reference(expected.slice(at, at + cols), ws, eps), at);
        }
      }
      const got = buffer.stored();
      expect(relativeL2(toNumbers(dtype, got), expected)).toBeLessThan(tolerance);
      for (let r = 0; r < rows; r++) {
        const rest = [r * rowStride + heads * cols, (r + 1) * rowStride] as const;
        expect(got.slice(...rest)).toEqual(x.slice(...rest));
      }
    });
  }

  test("a row's bits do not depend on the batch, and unaligned rows agree with aligned ones", () => {
    const [rows, cols] = [7, 1536];
    const x = randomArray(bfloat16, rows * cols + 1, 31);
    const weight = upload(device, randomArray(bfloat16, cols, 32));
    const all = output(device, bfloat16, rows * cols);
    const one = output(device, bfloat16, cols);
    const source = upload(device, x);
    const p = { weight, cols, eps, dtype: bfloat16 };
    rmsNorm(device.stream, { out: all.ptr, x: source, rows, ...p });
    rmsNorm(device.stream, { out: one.ptr, x: ptrAdd(source, 4 * cols * 2), rows: 1, ...p });
    expect(one.stored()).toEqual(all.stored().slice(4 * cols, 5 * cols));

    rmsNorm(device.stream, { out: one.ptr, x: ptrAdd(source, 2), rows: 1, ...p });
    const shifted = one.numbers();
    rmsNorm(device.stream, { out: one.ptr, x: upload(device, x.slice(1, 1 + cols)), rows: 1, ...p });
    expect(relativeL2(shifted, one.numbers())).toBeLessThan(roundingTolerance(bfloat16));
  });
});
