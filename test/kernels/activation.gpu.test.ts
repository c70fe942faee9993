import { expect, test } from "vitest";
import { bfloat16, float16, float32 } from "../../src/base/dtype.ts";
import { gatedActivation, geluMul, siluMul } from "../../src/kernels/activation/activation.ts";
import { geluTanh, silu } from "../reference/activation.ts";
import { describeGpu, output, randomArray, relativeL2, roundingTolerance, toNumbers, upload } from "../support/gpu.ts";

describeGpu("gated activation", (device) => {
  for (const dtype of [float32, float16, bfloat16]) {
    for (const [name, launch, f] of [
      ["silu", siluMul, silu],
      ["gelu", geluMul, geluTanh],
    ] as const) {
      // 5 and 1027 columns end inside a 16-byte vector and misalign every other row.
      for (const [rows, cols] of [
        [1, 1],
        [3, 5],
        [2, 1024],
        [7, 1027],
        [1, 14336],
      ] as const) {
        test(`${name} ${dtype.name} [${rows}, 2 * ${cols}]`, () => {
          const x = randomArray(dtype, rows * 2 * cols, cols);
          const xs = toNumbers(dtype, x);
          const out = output(device, dtype, rows * cols);
          launch(device.stream, { out: out.ptr, gateUp: upload(device, x), rows, cols, dtype });
          const expected = Float64Array.from({ length: rows * cols }, (_, i) => {
            const at = Math.floor(i / cols) * 2 * cols + (i % cols);
            return f(xs[at]!) * xs[at + cols]!;
          });
          // expf and the division are good to about 2 ulp; the bound for float32 is 16.
          expect(relativeL2(out.numbers(), expected)).toBeLessThan(roundingTolerance(dtype));
        });
      }
    }
  }

  test("separate operands with strides, in place, more rows than a grid has in y", () => {
    const [rows, cols, stride] = [65_537, 3, 4];
    const gate = randomArray(float16, rows * stride, 1);
    const up = randomArray(float16, rows * cols, 2);
    const buffer = output(device, float16, rows * stride, gate);
    gatedActivation(device.stream, {
      out: buffer.ptr,
      gate: buffer.ptr,
      up: upload(device, up),
      activation: "silu",
      rows,
      cols,
      outStride: stride,
      gateStride: stride,
      dtype: float16,
    });
    const expected = toNumbers(float16, gate);
    const ups = toNumbers(float16, up);
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < cols; c++) expected[r * stride + c] = silu(expected[r * stride + c]!) * ups[r * cols + c]!;
    expect(relativeL2(buffer.numbers(), expected)).toBeLessThan(roundingTolerance(float16));
  });

  test("large magnitudes go to their limits without NaN", () => {
    const x = Float32Array.of(-1e30, -200, 200, 1e30, 1, 1, 1, 1);
    for (const launch of [siluMul, geluMul]) {
      const out = output(device, float32, 4);
      launch(device.stream, { out: out.ptr, gateUp: upload(device, x), rows: 1, cols: 4, dtype: float32 });
      expect(Array.from(out.numbers(), (v) => v + 0)).toEqual([0, 0, 200, Math.fround(1e30)]);
    }
  });
});
