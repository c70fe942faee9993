import { describe, expect, test } from "vitest";
import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16 } from "../../../src/base/float.ts";
import { fourBitLevels } from "../../../src/base/four-bit.ts";
import {
  chooseQuant,
  codeScale,
  type QuantMachine,
  type QuantShape,
  quantRefusal,
} from "../../../src/kernels/quant-matmul/choose.ts";
import { quantFormats } from "../../../src/kernels/quant-matmul/formats.ts";
import { chooseSlices, mmaBlock } from "../../../src/kernels/quant-matmul/layout.ts";

const h100: QuantMachine = { capability: 90, sharedBytes: 227 * 1024, multiprocessors: 132 };
const shape: QuantShape = {
  m: 1,
  n: 14336,
  k: 4096,
  gated: false,
  dtype: "bf16",
  format: "code4",
  blockSize: 64,
  nested: false,
  rounded: false,
  vectorX: true,
};
const chosen = (change: Partial<QuantShape>, on = h100) => chooseQuant({ ...shape, ...change }, on).kernel;

describe("the kernel for a product with a quantized weight", () => {
  test("few rows read the weight as it is stored, many a dequantized copy", () => {
    expect([1, 8, 16, 17, 2048].map((m) => chosen({ m }))).toEqual(["mma", "mma", "mma", "dequantize", "dequantize"]);
    expect([1, 8, 9].map((m) => chosen({ m, dtype: "f32" }))).toEqual(["gemv", "gemv", "dequantize"]);
    expect([1, 8, 9].map((m) => chosen({ m }, { ...h100, capability: 75 }))).toEqual(["gemv", "gemv", "dequantize"]);
  });

  test("few rows of values that are rounded first read the weight as it is stored, too", () => {
    expect(chosen({ dtype: "f32", rounded: true })).toBe("gemv");
    expect(chosen({ dtype: "f16", rounded: true })).toBe("mma");
  });

  test.each<[string, Partial<QuantShape>, RegExp]>([
    ["odd rows of x", { vectorX: false }, /16 bytes/],
    ["K of 4-bit codes", { k: 896 }, /256/],
    ["K of blocks", { format: "q4_0", k: 4128 }, /64/],
    ["small blocks", { blockSize: 32 }, /64 values/],
    ["nested absmax of other blocks", { blockSize: 128, nested: true }, /nested/],
  ])("the tensor cores refuse %s, and another kernel takes it", (_, change, reason) => {
    expect(quantRefusal("mma", { ...shape, ...change }, h100)).toMatch(reason);
    expect(chosen(change)).toBe("gemv");
  });
});

describe("how warps divide the work", () => {
  test("tasks fill the GPU in whole rounds", () => {
    expect(chooseSlices(896, 16, 16, 132)).toBe(2); // 14336 x 4096: 1792 of 2112 warps busy, once
    expect(chooseSlices(256, 56, 16, 132)).toBe(8); // 4096 x 14336: 2048 of 2112
    expect(chooseSlices(256, 16, 16, 132)).toBe(8);
    expect(chooseSlices(64, 16, 16, 132)).toBe(16);
    expect(chooseSlices(1, 1, 16, 132)).toBe(1);
  });

  test("order of sums does not depend on M, and shared memory is never exceeded", () => {
    for (const format of quantFormats) {
      for (const sharedBytes of [48, 99, 163, 227].map((kb) => kb * 1024)) {
        for (const k of [256, 4096, 14336, 53248]) {
          const blocks = [1, 8, 16].map((m) => mmaBlock({ format, m, rows: 4096, k }, { ...h100, sharedBytes }));
          for (const block of blocks) {
            expect([block.warps, block.slices]).toEqual([blocks[0]!.warps, blocks[0]!.slices]);
            expect(block.warps % block.slices).toBe(0);
            expect(block.sharedBytes).toBeLessThanOrEqual(sharedBytes);
          }
        }
      }
    }
  });
});

test.each([
  ["float16", (x: number) => f16ToNumber(numberToF16(x))],
  ["bfloat16", (x: number) => bf16ToNumber(numberToBf16(x))],
] as const)("a factor makes NF4's levels fit %s better", (_, round) => {
  const error = (factor: number): number =>
    Math.hypot(
      ...[...fourBitLevels.nf4].filter((x) => x !== 0).map((x) => (round(x * factor) - x * factor) / (x * factor)),
    );
  const factor = codeScale(fourBitLevels.nf4, round);
  expect(factor).toBeGreaterThanOrEqual(1);
  expect(factor).toBeLessThan(2);
  expect(error(factor)).toBeLessThan(0.7 * error(1));
});
