import { expect, test } from "vitest";
import { bfloat16, float16, float32 } from "../../../src/base/dtype.ts";
import { ggmlType } from "../../../src/base/ggml.ts";
import { dequantizeGgml, ggmlFormat, ggmlFormats } from "../../../src/kernels/ggml/ggml.ts";
import { bits, describeGpu, output, toNumbers, upload } from "../../support/gpu.ts";
import { Vectors } from "../../support/vectors.ts";

const vectors = new Vectors("ggml-vectors.safetensors");

test("every quantized type that is supported has a reader, and the others none", () => {
  for (const format of ggmlFormats) expect(ggmlFormat(ggmlType(format))).toBe(format);
  for (const name of ["F32", "F16", "BF16", "Q8_K", "IQ2_XS"]) expect(ggmlFormat(ggmlType(name))).toBe(undefined);
});

describeGpu("GGML blocks", (device) => {
  test.each(ggmlFormats)("%s: values bit-equal to gguf-py", (type) => {
    const [blocks, blockValues] = vectors.shape(`${type.toUpperCase()}.values`) as [number, number];
    const raw = upload(device, vectors.bytes(`${type.toUpperCase()}.raw`));
    const expected = vectors.floats(`${type.toUpperCase()}.values`);
    // As one row, and as rows of a few blocks: a span of 256 values then ends early.
    for (const perRow of [blocks, 3]) {
      const [n, cols] = [blocks / perRow, perRow * blockValues];
      const out = output(device, float32, n * cols);
      dequantizeGgml(device.stream, { out: out.ptr, blocks: raw, type, n, cols, dtype: float32 });
      expect(bits(out.stored())).toEqual(bits(expected));
    }
  });

  test.each(ggmlFormats)("%s: 16-bit values, rows by id, a factor", (type) => {
    const [blocks, cols] = vectors.shape(`${type.toUpperCase()}.values`) as [number, number];
    const raw = upload(device, vectors.bytes(`${type.toUpperCase()}.raw`));
    const expected = vectors.floats(`${type.toUpperCase()}.values`);
    const ids = Int32Array.from([5, 0, blocks - 1, -1, 5, blocks]);
    for (const dtype of [float16, bfloat16]) {
      const out = output(device, dtype, ids.length * cols);
      const rows = { ids: upload(device, ids), rows: ids.length, factor: 1.5 };
      dequantizeGgml(device.stream, { out: out.ptr, blocks: raw, type, n: blocks, cols, dtype, ...rows });
      const got = toNumbers(dtype, out.stored());
      const wrong = got.findIndex((y, at) => {
        const id = ids[Math.floor(at / cols)]!;
        if (id < 0 || id >= blocks) return !Number.isNaN(y);
        const exact = expected[id * cols + (at % cols)]! * 1.5;
        // Half a unit in the last place; float16 below 2^-14 has a fixed one.
        return !(Math.abs(y - exact) <= Math.abs(exact) * (dtype === float16 ? 2 ** -11 : 2 ** -8) + 2 ** -25);
      });
      expect(wrong).toBe(-1);
    }
  });
});
