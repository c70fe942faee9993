import { expect, test } from "vitest";
import { bfloat16, float16, float32, int32 } from "../../src/base/dtype.ts";
import { encodeArray } from "../../src/base/element.ts";
import { argmax, argmaxWorkspaceBytes } from "../../src/kernels/argmax/argmax.ts";
import { argmax as reference } from "../reference/selection.ts";
import { allocate, describeGpu, normals, output, toNumbers, upload } from "../support/gpu.ts";

describeGpu("argmax", (device) => {
  for (const dtype of [float32, float16, bfloat16]) {
    for (const [rows, cols] of [
      [1, 1],
      [5, 3],
      [3, 1000],
      [2, 16384],
      [2, 16385],
      [1, 50257],
      [64, 32000],
      [3, 128256],
      [1, 262144],
    ] as const) {
      // 16-bit values are full of ties, and the odd stride misaligns rows.
      test(`${dtype.name} [${rows}, ${cols}]`, () => {
        const xStride = cols + (rows > 1 ? 1 : 0);
        const x = encodeArray(dtype, normals(rows * xStride, cols));
        const xs = toNumbers(dtype, x);
        const out = output(device, int32, rows);
        const workspace = allocate(device, argmaxWorkspaceBytes(rows, cols));
        argmax(device.stream, { out: out.ptr, x: upload(device, x), workspace, rows, cols, xStride, dtype });
        const expected = Array.from({ length: rows }, (_, r) => reference(xs.slice(r * xStride, r * xStride + cols)));
        expect(Array.from(out.stored() as Int32Array)).toEqual(expected);
      });
    }
  }

  for (const cols of [100, 40_000]) {
    test(`ties, zeros of both signs, infinities and NaN among ${cols}`, () => {
      const row = (fill: number, ...marks: [number, number][]) => {
        const x = new Float32Array(cols).fill(fill);
        for (const [c, v] of marks) x[c] = v;
        return x;
      };
      const cases: [Float32Array, number][] = [
        [row(7), 0],
        [row(-1, [90, 3], [31, 3]), 31],
        [row(-1, [50, 0], [49, -0]), 49],
        [row(-1, [50, -0], [49, 0]), 49],
        [row(Number.NEGATIVE_INFINITY), 0],
        [row(Number.NEGATIVE_INFINITY, [cols - 1, -1e38]), cols - 1],
        [row(1, [20, Number.POSITIVE_INFINITY], [70, Number.NaN], [80, Number.NaN]), 70],
      ];
      const x = new Float32Array(cases.length * cols);
      cases.forEach(([values], r) => {
        x.set(values, r * cols);
      });
      const out = output(device, int32, cases.length);
      const workspace = allocate(device, argmaxWorkspaceBytes(cases.length, cols));
      argmax(device.stream, {
        out: out.ptr,
        x: upload(device, x),
        workspace,
        rows: cases.length,
        cols,
        dtype: float32,
      });
      expect(Array.from(out.stored() as Int32Array)).toEqual(cases.map(([, index]) => index));
    });
  }
});
