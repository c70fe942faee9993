import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { attentionWorkspaceBytes } from "../../src/kernels/attention/attention.ts";
import {
  type AttentionShape,
  chunkTokens,
  chunkUnit,
  fewQueries,
  maxSplits,
  planSplit,
  planTiles,
  splitBound,
  tileWidth,
} from "../../src/kernels/attention/plan.ts";
import { cacheBlockTokens } from "../../src/kernels/kv-cache/kv-cache.ts";

const shape: AttentionShape = { sequences: 3, maxQuery: 1, maxContext: 512, heads: 32, kvHeads: 8, headDim: 128 };

function constantOf(file: string, name: string): number {
  const text = readFileSync(new URL(`../../src/kernels/${file}`, import.meta.url), "utf8");
  return Number(new RegExp(`constexpr int ${name} = (\\d+);`).exec(text)?.[1]);
}

describe("attention plan", () => {
  test("the device code has the same numbers", () => {
    expect(constantOf("attention/attention.cuh", "FEW_QUERIES")).toBe(fewQueries);
    expect(constantOf("attention/attention.cuh", "CHUNK_UNIT")).toBe(chunkUnit);
    expect(constantOf("attention/attention.cuh", "MAX_SPLITS")).toBe(maxSplits);
    expect(constantOf("kv-cache/paged-cache.cuh", "CACHE_BLOCK")).toBe(cacheBlockTokens);
  });

  test("chunks stay short while there are few, and few when the context is long", () => {
    expect([1, 64, 65, 4096].map(chunkTokens)).toEqual([64, 64, 64, 64]);
    expect([4097, 8192, 8193, 131072].map(chunkTokens)).toEqual([128, 128, 192, 2048]);
  });

  test("no context has more chunks than the bound of any larger one", () => {
    for (let bound = 1; bound < 20000; bound += 977) {
      for (let span = 1; span <= bound; span += 61) {
        expect(Math.ceil(span / chunkTokens(span))).toBeLessThanOrEqual(splitBound(bound));
      }
    }
  });

  test("decode of Llama 3 8B fills blocks with the four heads of a group", () => {
    const sharedBytes = 4 * 4 * 130 * 4;
    expect(planSplit(shape, false)).toEqual({ rows: 4, rowTiles: 1, splits: 8, queries: 1, sharedBytes });
    expect(attentionWorkspaceBytes(shape)).toBe(3 * 32 * 8 * 130 * 4);
  });

  test("rows of a block follow the group's size", () => {
    const rowsOf = (heads: number, kvHeads: number) => planSplit({ ...shape, heads, kvHeads }, false).rows;
    expect([rowsOf(8, 8), rowsOf(8, 4), rowsOf(24, 8), rowsOf(28, 4), rowsOf(64, 8), rowsOf(16, 1)]).toEqual([
      1, 4, 4, 8, 8, 8,
    ]);
    expect(planSplit({ ...shape, maxQuery: 4096, heads: 28, kvHeads: 4 }, false).rowTiles).toBe(7);
  });

  test("rows of a block are always eight on tensor cores", () => {
    for (const kvHeads of [1, 2, 4, 8]) {
      const { rows, rowTiles } = planSplit({ ...shape, maxQuery: 2, heads: 8, kvHeads }, true);
      expect([rows, rowTiles]).toEqual([8, Math.ceil((2 * 8) / kvHeads / 8)]);
    }
  });

  test("a window bounds the chunks", () => {
    expect(planSplit({ ...shape, maxContext: 100000, window: 1024 }, true).splits).toBe(16);
    expect(planSplit({ ...shape, maxContext: 300, window: 1024 }, false).splits).toBe(5);
  });

  test("tiles fit the shared memory of the oldest GPU that runs them", () => {
    for (const headDim of [8, 64, 80, 128, 136, 256]) {
      const s = { ...shape, headDim, maxQuery: 2048 };
      expect(planTiles(s, false).sharedBytes).toBeLessThanOrEqual(48 * 1024);
      expect(planTiles(s, true).sharedBytes).toBeLessThanOrEqual(99 * 1024);
      expect(planSplit({ ...s, heads: 64 }, true).sharedBytes).toBeLessThanOrEqual(48 * 1024);
    }
    expect(planTiles({ ...shape, maxQuery: 2048 }, true).rowTiles).toBe((2048 * 4) / 64);
  });

  test("head dims take the next width", () => {
    expect([8, 64, 72, 128, 136, 256].map(tileWidth)).toEqual(["64", "64", "128", "128", "256", "256"]);
  });
});
