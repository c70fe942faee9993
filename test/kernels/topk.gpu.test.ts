import { expect, test } from "vitest";
import { bfloat16, float16, float32, int32, int64 } from "../../src/base/dtype.ts";
import { encodeArray } from "../../src/base/element.ts";
import { topk, topkWorkspaceBytes } from "../../src/kernels/topk/topk.ts";
import { topk as reference } from "../reference/selection.ts";
import { allocate, describeGpu, normals, output, toNumbers, upload } from "../support/gpu.ts";

describeGpu("topk", (device) => {
  const multiprocessors = () => device.attributes.multiprocessors;
  for (const dtype of [float32, float16, bfloat16]) {
    for (const [rows, cols, k] of [
      [1, 1, 1],
      [5, 3, 3],
      [200, 64, 8],
      [7, 257, 256],
      [2, 1024, 1024],
      [3, 5000, 1000],
      [2, 20_000, 1],
      [1, 128_256, 50],
      [2, 100_003, 1024],
      [1, 262_144, 1024],
    ] as const) {
      test(`${dtype.name} [${rows}, ${cols}], k = ${k}`, () => {
        const xStride = cols + (rows > 1 ? 1 : 0);
        const x = encodeArray(dtype, normals(rows * xStride, cols + k));
        const xs = toNumbers(dtype, x);
        const values = output(device, dtype, rows * k);
        const wideIndices = k % 2 === 0;
        const indices = output(device, wideIndices ? int64 : int32, rows * k);
        const workspace = allocate(device, topkWorkspaceBytes(rows, cols, k, multiprocessors()));
        topk(device.stream, {
          values: values.ptr,
          indices: indices.ptr,
          x: upload(device, x),
          workspace,
          rows,
          cols,
          k,
          xStride,
          wideIndices,
          dtype,
        });
        const expected = Array.from({ length: rows }, (_, r) =>
          reference(xs.slice(r * xStride, r * xStride + cols), k),
        );
        expect(Array.from(indices.numbers())).toEqual(expected.flat());
        const bits = expected.flatMap((row, r) => row.map((c) => x[r * xStride + c]!));
        expect(Array.from(values.stored() as Uint16Array | Float32Array)).toEqual(bits);
      });
    }
  }

  for (const cols of [600, 40_000]) {
    test(`nothing but ties, NaN first, and zeros with their signs, among ${cols}`, () => {
      const k = 5;
      const x = new Float32Array(4 * cols).fill(2, 0, cols).fill(-1, cols);
      x.set([Number.NaN, Number.POSITIVE_INFINITY, 3, Number.NaN], cols + 200);
      x.set([0, -0, -0, 0], 2 * cols + 300);
      x.fill(Number.NEGATIVE_INFINITY, 3 * cols);
      const values = output(device, float32, 4 * k);
      const indices = output(device, int32, 4 * k);
      const workspace = allocate(device, topkWorkspaceBytes(4, cols, k, multiprocessors()));
      const p = { x: upload(device, x), workspace, rows: 4, cols, k, dtype: float32 };
      topk(device.stream, { values: values.ptr, indices: indices.ptr, ...p });
      expect(Array.from(indices.numbers())).toEqual(
        [
          [0, 1, 2, 3, 4],
          [200, 203, 201, 202, 0],
          [300, 301, 302, 303, 0],
          [0, 1, 2, 3, 4],
        ].flat(),
      );
      expect(Array.from(values.stored().slice(2 * k, 3 * k) as Float32Array)).toEqual([0, -0, -0, 0, -1]);
    });
  }
});
