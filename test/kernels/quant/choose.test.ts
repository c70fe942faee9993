import { describe, expect, test } from "vitest";
import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16 } from "../../../src/base/float.ts";
import { fourBitLevels } from "../../../src/base/four-bit.ts";
import { ggmlFormats } from "../../../src/kernels/ggml/ggml.ts";
import {
  chooseQuant,
  codeScale,
  type QuantMachine,
  type QuantShape,
  quantRefusal,
} from "../../../src/kernels/quant-matmul/choose.ts";
import { quantFormats } from "../../../src/kernels/quant-matmul/formats.ts";
import { gemmBlock, gemmSplits } from "../../../src/kernels/quant-matmul/gemm-layout.ts";
import { ggmlBlock, ggmlBoxes } from "../../../src/kernels/quant-matmul/ggml-layout.ts";
import { bulkBlock, chooseSlices, mmaBlock } from "../../../src/kernels/quant-matmul/layout.ts";
import { wgmmaBlock, wgmmaBoxes } from "../../../src/kernels/quant-matmul/wgmma-layout.ts";

const h100: QuantMachine = { capability: 90, hopper: true, sharedBytes: 227 * 1024, multiprocessors: 132 };
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
  alignment: 16,
};
const chosen = (change: Partial<QuantShape>, on = h100) => chooseQuant({ ...shape, ...change }, on).kernel;

describe("the kernel for a product with a quantized weight", () => {
  test("few rows read the weight as it is stored, many a dequantized copy", () => {
    expect([1, 8, 16, 17, 64, 2048].map((m) => chosen({ m }))).toEqual([
      ...["bulk", "bulk", "bulk"],
      ...["wgmma", "wgmma", "dequantize"],
    ]);
    expect([1, 16].map((m) => chosen({ m }, { ...h100, capability: 80, hopper: false }))).toEqual(["mma", "mma"]);
    expect([1, 8, 9].map((m) => chosen({ m, dtype: "f32" }))).toEqual(["gemv", "gemv", "dequantize"]);
  });

  test("every generation of tensor cores has a kernel for more rows than a fragment", () => {
    const a100 = { ...h100, capability: 80, hopper: false, sharedBytes: 163 * 1024, multiprocessors: 108 };
    const t4 = { ...h100, capability: 75, hopper: false, sharedBytes: 64 * 1024, multiprocessors: 40 };
    expect([16, 17, 64].map((m) => chosen({ m }, a100))).toEqual(["mma", "gemm", "gemm"]);
    expect(chosen({ m: 64, format: "q4_k" }, a100)).toBe("gemm");
    expect((["q4_k", "q6_k", "q2_k"] as const).map((format) => chosen({ m: 64, format }))).toEqual([
      "wgmma",
      "wgmma",
      "gemm",
    ]);
    expect(chosen({ m: 64, format: "q6_k", k: 5120 })).toBe("gemm"); // rows that start anywhere
    expect([8, 9, 64].map((m) => chosen({ m, dtype: "f16" }, t4))).toEqual(["gemv", "wmma", "wmma"]);
    expect(chosen({ m: 64, dtype: "bf16" }, t4)).toBe("dequantize");
    expect(chosen({ m: 64, dtype: "f16" }, { ...t4, capability: 61 })).toBe("dequantize");
  });

  test("few rows of values that are rounded first read the weight as it is stored, too", () => {
    expect(chosen({ dtype: "f32", rounded: true })).toBe("gemv");
    expect(chosen({ dtype: "f16", rounded: true })).toBe("bulk");
  });

  test.each<[string, Partial<QuantShape>, RegExp]>([
    ["odd rows of x", { vectorX: false }, /16 bytes/],
    ["K of 4-bit codes", { k: 896 }, /256/],
    ["K of blocks", { format: "q4_0", k: 4128 }, /64/],
    ["blocks that start anywhere", { format: "q4_k", alignment: 4 }, /start on 16 bytes/],
    ["small blocks", { blockSize: 32 }, /64 values/],
    ["nested absmax of other blocks", { blockSize: 128, nested: true }, /nested/],
  ])("the tensor cores refuse %s, and another kernel takes it", (_, change, reason) => {
    expect(quantRefusal("mma", { ...shape, ...change }, h100)).toMatch(reason);
    expect(chosen(change)).toBe("gemv");
  });
});

test("the copy engine takes rows of GGML blocks that start on 16 bytes, the cores before it the rest", () => {
  const kernel = (change: Partial<QuantShape>, on = h100) => chosen({ format: "q6_k", ...change }, on);
  expect([kernel({}), kernel({ k: 5120 }), kernel({ alignment: 2 }), kernel({ format: "q3_k" })]).toEqual([
    "bulk",
    "mma",
    "mma",
    "mma",
  ]);
  expect(kernel({}, { ...h100, capability: 89 })).toBe("mma");
  expect(quantRefusal("bulk", { ...shape, format: "q6_k", k: 5120 }, h100)).toMatch(/multiple of 16 bytes/);
});

describe("how warps divide the work", () => {
  test("tasks fill the GPU in whole rounds", () => {
    expect(chooseSlices(896, 16, 16, 132)).toBe(2); // 14336 x 4096: 1792 of 2112 warps busy, once
    expect(chooseSlices(256, 56, 16, 132)).toBe(8); // 4096 x 14336: 2048 of 2112
    expect(chooseSlices(256, 16, 16, 132)).toBe(8);
    expect(chooseSlices(64, 16, 16, 132)).toBe(16);
    expect(chooseSlices(1, 1, 16, 132)).toBe(1);
  });

  test("of bulk copies: a span for each warp, or as many as the busiest has", () => {
    const block = (m: number, rows: number, k: number) => bulkBlock({ m, rows, k }, h100);
    expect(block(1, 14336, 4096)).toMatchObject({ warps: 16, slices: 16, together: 7, resident: 7, blocks: 132 });
    expect(block(1, 4096, 14336)).toMatchObject({ warps: 14, slices: 14, together: 2, resident: 2 }); // 56 spans: four each
    expect(block(1, 3072, 1024)).toMatchObject({ warps: 16, slices: 4, parts: 4, together: 4 });
    expect(block(16, 28672, 8192)).toMatchObject({ warps: 16, slices: 16, together: 4, resident: 4 });
    expect(bulkBlock({ m: 1, rows: 4096, k: 4096 }, { ...h100, sharedBytes: 99 * 1024 })).toBeUndefined();
    expect(chosen({}, { ...h100, sharedBytes: 99 * 1024 })).toBe("mma");
    expect([1, 16].map((m) => chosen({ m, k: 131072 }))).toEqual(["mma", "mma"]);
    for (const k of [256, 1792, 4096, 11008, 53248]) {
      const blocks = [1, 8, 16].map((m) => block(m, 28672, k)!);
      for (const { warps, slices, parts, together, resident, sharedBytes } of blocks) {
        expect(warps).toBe(slices * parts);
        expect([warps, slices]).toEqual([blocks[0]!.warps, blocks[0]!.slices]);
        expect(together % parts).toBe(0);
        expect(resident).toBeLessThanOrEqual(32);
        expect(sharedBytes).toBeLessThanOrEqual(h100.sharedBytes);
      }
    }
  });

  test("order of sums does not depend on M, and shared memory is never exceeded", () => {
    for (const sharedBytes of [48, 99, 163, 227].map((kb) => kb * 1024)) {
      for (const k of [256, 4096, 14336, 53248]) {
        const on = { ...h100, sharedBytes };
        const code4 = [1, 8, 16].map((m) => mmaBlock({ m, rows: 4096, k }, on));
        const ggml = ggmlFormats.flatMap((format) =>
          [false, true]
            .filter((bulk) => !bulk || ggmlBoxes[format])
            .map((bulk) => [1, 2, 3, 16].map((m) => ggmlBlock({ format, m, rows: 14336, k }, on, bulk)!)),
        );
        for (const blocks of [code4, ...ggml]) {
          for (const block of blocks) {
            expect([block.warps, block.slices]).toEqual([blocks[0]!.warps, blocks[0]!.slices]);
            expect(block.warps % block.slices).toBe(0);
            expect(block.sharedBytes).toBeLessThanOrEqual(sharedBytes);
          }
        }
        for (const block of ggml.flat()) {
          expect(block.together % block.parts).toBe(0);
          expect(block.together).toBeGreaterThan(0);
        }
      }
    }
  });

  test("every warp has the same number of spans, give or take one, and few tiles need few blocks", () => {
    const of = (rows: number, k: number, m = 1) => ggmlBlock({ format: "q4_k", m, rows, k }, h100, true)!;
    expect(of(14336, 4096)).toMatchObject({ warps: 16, slices: 16, parts: 1, together: 7, blocks: 132 });
    expect(of(4096, 14336)).toMatchObject({ warps: 14, slices: 14, parts: 1, together: 2, blocks: 132 });
    expect(of(1024, 1024)).toMatchObject({ warps: 16, slices: 4, parts: 4, together: 4, blocks: 64 });
    expect(of(28672, 4096, 16).together).toBeLessThan(14); // in steps, as shared memory holds sums
    expect([1, 2, 3, 8, 9, 16].map((m) => of(4096, 4096, m).rows)).toEqual(["2", "2", "8", "8", "16", "16"]);
  });
});

describe("how blocks divide many rows", () => {
  test("K is split where N has too few tiles, by N, K and the device alone", () => {
    expect(gemmSplits(14336, 4096, 132)).toBe(1);
    expect(gemmSplits(4096, 4096, 132)).toBe(4);
    expect(gemmSplits(1024, 4096, 132)).toBe(8); // and no part is shorter than two spans
    expect(gemmSplits(128, 256, 132)).toBe(1);
  });

  test("Hopper's own kernels fit, with rings deep enough, and divide K whatever M is", () => {
    for (const format of quantFormats.filter((name) => wgmmaBoxes[name])) {
      const blocks = [17, 64, 65, 300].map((m) => wgmmaBlock({ format, m, rows: 4096, k: 4096 }, h100));
      for (const { splits, sharedBytes, xStages, wStages } of blocks) {
        expect(splits).toBe(4);
        expect(sharedBytes).toBeLessThanOrEqual(h100.sharedBytes);
        expect(Math.min(xStages, wStages)).toBeGreaterThanOrEqual(3);
        expect(Math.max(xStages, wStages)).toBeLessThanOrEqual(8); // barriers that there are
      }
    }
  });

  test("rings of every format fit every GPU of sm_80 and newer, and a span is asked for as early as its x", () => {
    for (const format of quantFormats) {
      for (const sharedBytes of [99, 163, 227].map((kb) => kb * 1024)) {
        const blocks = [17, 64, 300].map(
          (m) => gemmBlock({ format, m, rows: 4096, k: 4096 }, { ...h100, sharedBytes })!,
        );
        for (const block of blocks) {
          expect(block).toEqual(blocks[0]);
          expect(block.sharedBytes).toBeLessThanOrEqual(sharedBytes);
          expect(block.xStages - 1).toBeLessThanOrEqual(2 * (block.wStages - 1));
          expect(block.xStages).toBeLessThanOrEqual(4); // as many as the kernels know to wait for
        }
      }
    }
    expect(
      gemmBlock({ format: "q8_0", m: 64, rows: 4096, k: 4096 }, { ...h100, sharedBytes: 64 * 1024 }),
    ).toBeUndefined();
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
