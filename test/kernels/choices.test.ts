import { describe, expect, test } from "vitest";
import { argmaxWorkspaceBytes, chooseArgmax } from "../../src/kernels/argmax/argmax.ts";
import { chooseRowBlock, valuesPerThread } from "../../src/kernels/row-block.ts";
import { samplePart, samplingWorkspaceBytes } from "../../src/kernels/sampling/sampling.ts";
import { chooseTopk, topkWorkspaceBytes } from "../../src/kernels/topk/topk.ts";

describe("chooseRowBlock", () => {
  test("short rows share a block, a warp each", () => {
    expect(chooseRowBlock(1)).toEqual({ threads: 32, rows: 8 });
    expect(chooseRowBlock(512)).toEqual({ threads: 32, rows: 8 });
  });
  test.each([513, 2048, 4096, 5120, 16384])("%i columns fit the registers of whole warps", (cols) => {
    const { threads, rows } = chooseRowBlock(cols);
    expect(rows).toBe(1);
    expect(threads % 32).toBe(0);
    expect(threads * valuesPerThread).toBeGreaterThanOrEqual(cols);
    expect((threads - 32) * valuesPerThread).toBeLessThan(cols);
  });
  test("a block has at most 1024 threads", () => {
    expect(chooseRowBlock(262_144)).toEqual({ threads: 1024, rows: 1 });
  });
});

describe("chooseArgmax", () => {
  test("one block for short rows, and for each of many rows", () => {
    expect(chooseArgmax(1, 16_384, 132)).toEqual({ parts: 1, partSize: 16_384 });
    expect(chooseArgmax(1000, 128_256, 132)).toEqual({ parts: 1, partSize: 128_256 });
  });
  test("a few long rows are split over the device", () => {
    expect(chooseArgmax(1, 128_256, 132)).toEqual({ parts: 32, partSize: 4096 });
    expect(chooseArgmax(64, 128_256, 132)).toEqual({ parts: 5, partSize: 7 * 4096 });
  });
  test("parts cover every column, and the workspace holds one pair each", () => {
    for (const rows of [1, 3, 17, 64, 400])
      for (const cols of [1, 16_385, 50_257, 262_144]) {
        const { parts, partSize } = chooseArgmax(rows, cols, 132);
        expect(parts * partSize).toBeGreaterThanOrEqual(cols);
        expect((parts - 1) * partSize).toBeLessThan(cols);
        expect(argmaxWorkspaceBytes(rows, cols)).toBeGreaterThanOrEqual(rows * parts * 8);
      }
  });
});

describe("chooseTopk", () => {
  test("splits long rows only when rows are few and k is small against a part", () => {
    expect(chooseTopk(1, 128_256, 50, 132)).toEqual({ parts: 16, partSize: 8192 });
    expect(chooseTopk(200, 128_256, 50, 132).parts).toBe(1);
    expect(chooseTopk(1, 128, 8, 132).parts).toBe(1);
    expect(topkWorkspaceBytes(1, 128, 8, 132)).toBe(0);
    expect(topkWorkspaceBytes(2, 128_256, 50, 132)).toBe(2 * 16 * 50 * 8);
  });
});

describe("samplingWorkspaceBytes", () => {
  test("holds partial maxima, histograms and lists", () => {
    const [rows, vocab] = [3, 128_256];
    const least = rows * (Math.ceil(vocab / samplePart) * 8 + 2048 * 12 + vocab * 4);
    expect(samplingWorkspaceBytes(rows, vocab)).toBeGreaterThanOrEqual(least);
    expect(samplingWorkspaceBytes(rows, vocab)).toBeLessThan(least + 4096);
  });
});
