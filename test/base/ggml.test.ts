import { expect, test } from "vitest";
import { ggmlBytes, ggmlType, ggmlTypeById, supportedGgmlTypes } from "../../src/base/ggml.ts";

test("types are found by number and by name in any case, and are the same object", () => {
  for (const type of supportedGgmlTypes) {
    expect(ggmlTypeById(type.id)).toBe(type);
    expect(ggmlType(type.name.toLowerCase())).toBe(type);
  }
  expect(supportedGgmlTypes).toHaveLength(15);
});

test("bits per weight are what the formats are known for", () => {
  const bits = (name: string) => (ggmlType(name).blockBytes * 8) / ggmlType(name).blockElements;
  expect(["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"].map(bits)).toEqual([4.5, 5, 5.5, 6, 8.5]);
  expect(["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"].map(bits)).toEqual([2.625, 3.4375, 4.5, 5.5, 6.5625]);
  expect(["IQ4_NL", "IQ4_XS", "MXFP4", "NVFP4"].map(bits)).toEqual([4.5, 4.25, 4.25, 4.5]);
  expect(["IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"].map(bits)).toEqual([
    2.0625, 2.3125, 2.5625, 3.0625, 3.4375,
  ]);
  expect(["IQ1_S", "IQ1_M", "TQ1_0", "TQ2_0"].map(bits)).toEqual([1.5625, 1.75, 1.6875, 2.0625]);
  expect(ggmlBytes(ggmlType("Q6_K"), 4096)).toBe(3360);
});

test("withdrawn numbers and unknown names are not types", () => {
  for (const id of [4, 5, 31, 32, 33, 36, 37, 38, 41, -1, 0.5]) expect(ggmlTypeById(id)).toBeUndefined();
  expect(() => ggmlType("q9_k")).toThrow(/"q9_k"; supported are F32, F16/);
});
