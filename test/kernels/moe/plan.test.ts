import { describe, expect, test } from "vitest";
import { groupedQuantBlock, groupedQuantFormats } from "../../../src/kernels/moe/grouped-quant-layout.ts";
import { gemvMmaTile, maxGroups, planExperts } from "../../../src/kernels/moe/plan.ts";
import { random } from "../../support/numerics.ts";

const hopper = { capability: 90, multiprocessors: 132, sharedBytes: 227 * 1024 };
const ampere = { capability: 80, multiprocessors: 108, sharedBytes: 163 * 1024 };
const pascal = { capability: 60, multiprocessors: 56, sharedBytes: 48 * 1024 };
const mixtral = { tokens: 1, chosen: 2, experts: 8, dtype: "bf16", vector: true } as const;
const qwen3 = { tokens: 1, chosen: 8, experts: 128, dtype: "bf16", vector: true } as const;

describe("planExperts", () => {
  test("decoding, up to 64 sequences, reads each expert once with tensor cores", () => {
    for (const tokens of [1, 8]) {
      expect(planExperts({ ...qwen3, tokens }, hopper)).toEqual({ kernel: "gemv_mma", rows: "8", groupRows: 8 });
    }
    for (const tokens of [9, 64]) {
      expect(planExperts({ ...mixtral, tokens }, hopper)).toEqual({ kernel: "gemv_mma", rows: "16", groupRows: 16 });
      expect(planExperts({ ...qwen3, tokens }, ampere)).toEqual({ kernel: "gemv_mma", rows: "16", groupRows: 16 });
    }
  });
  test("prompts take tiles as large as the rows of an expert fill", () => {
    expect(planExperts({ ...mixtral, tokens: 128 }, hopper)).toEqual({ kernel: "mma", tile: "t64x64", groupRows: 64 });
    expect(planExperts({ ...qwen3, tokens: 4096 }, hopper)).toEqual({
      kernel: "mma",
      tile: "t128x128",
      groupRows: 128,
    });
  });
  test("float32, unaligned rows and old GPUs use ordinary arithmetic", () => {
    const few = { kernel: "gemv", rows: "1", groupRows: 1 };
    expect(planExperts({ ...mixtral, dtype: "f32" }, hopper)).toEqual(few);
    expect(planExperts({ ...mixtral, vector: false }, hopper)).toEqual(few);
    expect(planExperts({ ...mixtral, dtype: "f16" }, pascal)).toEqual(few);
    expect(planExperts({ ...mixtral, tokens: 32, dtype: "f32" }, pascal)).toEqual({ ...few, rows: "8", groupRows: 8 });
    expect(planExperts({ ...mixtral, tokens: 100, dtype: "f32" }, pascal)).toMatchObject({ tile: "t32" });
    expect(planExperts({ ...mixtral, tokens: 4096, dtype: "f32" }, pascal)).toMatchObject({ tile: "t128" });
  });
});

describe("planExperts with quantized weights", () => {
  const quantized = "multiplied";
  test("few rows have groups of 8, for whichever kernel reads a weight", () => {
    for (const tokens of [1, 8, 64]) {
      const few = { kernel: "gemv_mma", rows: "8", groupRows: 8 };
      expect(planExperts({ ...qwen3, tokens, quantized }, hopper)).toEqual(few);
    }
    expect(planExperts({ ...mixtral, quantized, dtype: "f16" }, pascal)).toMatchObject({
      kernel: "gemv",
      groupRows: 1,
    });
    const some = planExperts({ ...mixtral, tokens: 32, quantized, dtype: "f32" }, hopper);
    expect(some).toEqual({ kernel: "gemv", rows: "8", groupRows: 8 });
  });
  test("many rows, and weights that must be dequantized, take the tiles of plain ones", () => {
    const many = { ...qwen3, tokens: 4096 };
    expect(planExperts({ ...many, quantized }, hopper)).toEqual(planExperts(many, hopper));
    expect(planExperts({ ...qwen3, quantized: "dequantized" }, hopper)).toMatchObject({
      kernel: "mma",
      tile: "t64x64",
    });
    expect(planExperts({ ...qwen3, quantized: "dequantized" }, pascal)).toMatchObject({ kernel: "simt", tile: "t32" });
  });
});

test("quantized weights of few rows: the rings of as many warps as fit, which divide K where tiles are few", () => {
  const gateUp = { weightRows: 1536, k: 2048, chosen: 8, rows: 1 };
  const down = { weightRows: 2048, k: 768, chosen: 8, rows: 8 };
  expect(groupedQuantBlock({ ...gateUp, format: "code4" }, hopper)).toMatchObject({ warps: 16, slices: 2 });
  expect(groupedQuantBlock({ ...gateUp, format: "code4", rows: 7 }, hopper).xStride).toBeGreaterThan(2048);
  expect(groupedQuantBlock({ ...gateUp, format: "code4", rows: 64 }, hopper)).toMatchObject({ slices: 2, xStride: 0 });
  expect(groupedQuantBlock({ ...down, format: "q6_k" }, hopper)).toMatchObject({ warps: 16, slices: 1 });
  for (const format of groupedQuantFormats) {
    for (const on of [hopper, ampere, { ...ampere, sharedBytes: 99 * 1024 }]) {
      const { warps, slices, sharedBytes } = groupedQuantBlock({ ...down, format }, on);
      expect(sharedBytes).toBeLessThanOrEqual(on.sharedBytes);
      expect(warps % slices).toBe(0);
      expect(slices).toBeLessThanOrEqual(3);
      expect(warps).toBeGreaterThanOrEqual(4);
    }
  }
});

test("the tile of few rows: wide where there is work for all, and memory", () => {
  expect(gemvMmaTile(2 * 768, 8, "8", hopper)).toBe("32");
  expect(gemvMmaTile(64, 2, "8", hopper)).toBe("16");
  expect(gemvMmaTile(2 * 14336, 2, "16", ampere)).toBe("16");
});

test("maxGroups bounds what any routing makes, and some routing reaches it", () => {
  expect(maxGroups(8, 128, 8)).toBe(8);
  expect(maxGroups(1, 8, 16)).toBe(1);
  expect(maxGroups(9, 2, 8)).toBe(2);
  expect(maxGroups(17, 2, 8)).toBe(3);
  const draw = random(1);
  for (let i = 0; i < 200; i++) {
    const [slots, experts, rows] = [
      1 + Math.floor(draw() * 300),
      1 + Math.floor(draw() * 20),
      1 + Math.floor(draw() * 20),
    ];
    const counts = new Array<number>(experts).fill(0);
    for (let s = 0; s < slots; s++) counts[Math.floor(draw() ** 3 * experts)]!++;
    const groups = counts.reduce((sum, n) => sum + Math.ceil(n / rows), 0);
    expect(groups).toBeLessThanOrEqual(maxGroups(slots, experts, rows));
  }
});
