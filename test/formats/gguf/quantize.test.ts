import { createHash } from "node:crypto";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { float16 } from "../../../src/base/dtype.ts";
import { decodeArray, encodeArray } from "../../../src/base/element.ts";
import { f16ToNumber } from "../../../src/base/float.ts";
import { ggmlType, supportedGgmlTypes } from "../../../src/base/ggml.ts";
import { canQuantize, quantizeGgml } from "../../../src/formats/gguf/quantize.ts";
import { openCheckpoint } from "../../../src/formats/safetensors/checkpoint.ts";
import { seededInts, thrownBy } from "../support.ts";

const demo = join(import.meta.dirname, "../../../models/demo");

// Of all tensors of the demonstration model, in the order of their names, as llama.cpp v0.5.0 (x64) quantizes them.
test.each([
  ["Q4_0", "d11a0351e546b75866d236de3fc5445cd3cbe69bae6102e40b1f3ad7ee72dda9"],
  ["Q4_1", "37214e6ef2ece3d504b88f929d156d9612a8af7fc63dcea19b2ec59113a47c43"],
  ["Q5_0", "b2861e5676a5097dcfcff627083b86d1133b1aa7f141f9bd25b3f4c78c7c138f"],
  ["Q5_1", "7e5eca6945bc56e4fc565dd3b52db9699e47963988acae000989a7176a3493d3"],
  ["Q8_0", "459dcc31694c040f28b961cfa4d19bf21166bcb5a8a25067f43fc87b8c512645"],
])("%s gives the bytes that llama.cpp gives for 2.6 million weights", (name, sha256) => {
  using source = openCheckpoint(demo);
  const hash = createHash("sha256");
  for (const tensor of [...source.tensors.keys()].sort()) {
    const { elementType, shape } = source.tensors.get(tensor)!;
    const values = Float32Array.from(decodeArray(elementType!, elementType!.view(source.read(tensor))));
    hash.update(quantizeGgml(ggmlType(shape.length === 1 ? "F32" : name), values));
  }
  expect(hash.digest("hex")).toBe(sha256);
});

/** What a block stands for, by the format's description: x = d · (code - offset) + minimum. */
function dequantize(name: string, bytes: Uint8Array): { values: number[]; d: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const d = f16ToNumber(view.getUint16(0, true));
  if (name === "Q8_0") return { d, values: Array.from({ length: 32 }, (_, i) => d * view.getInt8(2 + i)) };
  const hasMinimum = name.endsWith("1");
  const minimum = hasMinimum ? f16ToNumber(view.getUint16(2, true)) : 0;
  const bits = name.startsWith("Q5") ? 5 : 4;
  const highAt = hasMinimum ? 4 : 2;
  const codesAt = highAt + (bits === 5 ? 4 : 0);
  const values = Array.from({ length: 32 }, (_, i) => {
    const byte = bytes[codesAt + (i % 16)]!;
    const low = i < 16 ? byte & 15 : byte >> 4;
    const high = bits === 5 ? (view.getUint32(highAt, true) >>> i) & 1 : 0;
    return d * (low + 16 * high - (hasMinimum ? 0 : 1 << (bits - 1))) + minimum;
  });
  return { values, d };
}

describe.each(["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])("%s", (name) => {
  const type = ggmlType(name);

  test("comes back within half a step, or a whole one at the end that symmetric codes do not reach", () => {
    const next = seededInts(5);
    for (let block = 0; block < 500; block++) {
      const scale = 2 ** (next(12) - 2); // large enough that d is no subnormal float16
      const shift = block % 3 === 0 ? scale * 2 : 0;
      const x = Float32Array.from({ length: 32 }, () => (next(2 ** 24) / 2 ** 23 - 1) * scale + shift);
      const bytes = quantizeGgml(type, x);
      expect(bytes.length).toBe(type.blockBytes);
      const { values, d } = dequantize(name, bytes);
      // float16 holds d, and the minimum, to 2^-11 of them.
      const rounding = Math.max(...x.map(Math.abs)) * 2 ** -10;
      const steps = name === "Q4_0" || name === "Q5_0" ? 1 : 0.5;
      for (let i = 0; i < 32; i++) {
        expect(Math.abs(values[i]! - x[i]!)).toBeLessThanOrEqual(Math.abs(d) * steps * 1.001 + rounding);
      }
    }
  });

  test("zeros, equal values and the ends of the range", () => {
    for (const value of [0, 3.5, -2]) {
      const { values } = dequantize(name, quantizeGgml(type, new Float32Array(32).fill(value)));
      for (const found of values) expect(found).toBeCloseTo(value, 2);
    }
    const ends = Float32Array.from({ length: 32 }, (_, i) => (i % 2 ? -8 : 7));
    const { values } = dequantize(name, quantizeGgml(type, ends));
    for (const [i, found] of values.entries()) expect(Math.abs(found - ends[i]!)).toBeLessThan(0.6);
  });
});

test("plain types are rounded to nearest, and others are refused by name", () => {
  const values = Float32Array.of(1, -0.1, 65_000, 1e-8);
  const bytes = quantizeGgml(ggmlType("F16"), values);
  const expected = encodeArray(float16, values);
  expect(Buffer.compare(bytes, new Uint8Array(expected.buffer))).toBe(0);
  expect(thrownBy(() => quantizeGgml(ggmlType("Q4_K"), new Float32Array(256)))?.message).toMatch(
    /quantizing to Q4_K is not supported; supported are F32, F16, BF16, Q8_0, Q4_0/,
  );
  expect(supportedGgmlTypes.filter(canQuantize).map((type) => type.name)).toEqual([
    ...["F32", "F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "BF16"],
  ]);
});
