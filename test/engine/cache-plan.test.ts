import { describe, expect, test } from "vitest";
import { bfloat16 } from "../../src/base/dtype.ts";
import { BlockManager, BlockTable } from "../../src/engine/block-manager.ts";
import {
  cacheFootprint,
  decodeTokens,
  heldBlocks,
  mostDecodeBlocks,
  prefillBlocks,
} from "../../src/engine/cache-plan.ts";
import { planPieces } from "../../src/engine/prefill-plan.ts";
import { cacheGroups, kvBytesPerToken, visibleKvBytes } from "../../src/nn/cache-groups.ts";

const shape = { layers: 5, windows: [32, 0, 32, 0, 32], kvHeads: 2, headDim: 64, dtype: bfloat16 };

describe("groups of layers", () => {
  test("are one for each window, in the layers' order", () => {
    expect(cacheGroups({ layers: 3 })).toEqual([{ window: 0, layers: [0, 1, 2] }]);
    expect(cacheGroups(shape)).toEqual([
      { window: 32, layers: [0, 2, 4] },
      { window: 0, layers: [1, 3] },
    ]);
    expect(() => cacheGroups({ layers: 3, windows: [32] })).toThrow("one for each of 3 layers, got 1");
  });

  test("say what a decode step reads", () => {
    expect(kvBytesPerToken(shape)).toBe(5 * 512);
    expect(visibleKvBytes(shape, 20)).toBe(20 * 5 * 512);
    expect(visibleKvBytes(shape, 100)).toBe((100 * 2 + 32 * 3) * 512);
  });
});

describe("blocks of a sequence", () => {
  test("are what a table holds that slides and grows, at every position", () => {
    for (const window of [0, 1, 15, 16, 17, 32, 100]) {
      const manager = new BlockManager(64, 16);
      const table = new BlockTable();
      let most = 0;
      for (let position = 0; position < 700; position++) {
        if (window > 0) manager.slide(table, position - window + 1);
        expect(manager.grow(table, position + decodeTokens)).toBe(true);
        expect(table.heldBlocks).toBe(heldBlocks(window, position, position + decodeTokens));
        most = Math.max(most, table.heldBlocks);
      }
      if (window > 0) expect(most).toBe(mostDecodeBlocks(window));
    }
  });

  test("of prompts in passes: the most that sliding and growing hold", () => {
    for (const window of [0, 1, 16, 33, 100]) {
      for (const limit of [7, 16, 64, 100, 1000]) {
        const prompts = [40, 1, 300, 17, 90].map((length) => ({ ids: { length }, table: new BlockTable() }));
        const manager = new BlockManager(64, 16);
        let most = 0;
        const note = () => {
          most = Math.max(most, manager.blocks - manager.freeBlocks);
        };
        const passes = planPieces(prompts, limit);
        for (const pieces of passes) {
          for (const { sequence, start, count } of pieces) manager.grow(sequence.table, start + count);
          note();
          for (const { sequence, start, count } of pieces) {
            if (window > 0) manager.slide(sequence.table, start + count - window + 1);
          }
        }
        for (const { ids, table } of prompts) manager.grow(table, ids.length + 1);
        note();
        expect(prefillBlocks(passes, window) - most >= 0).toBe(true);
        // It counts the first decoded token of every prompt as soon as that prompt is read.
        expect(prefillBlocks(passes, window) - most <= prompts.length).toBe(true);
      }
    }
  });
});

test("a footprint is the window, a pass beside it, or everything", () => {
  const [sliding, full] = cacheFootprint(shape, 5000);
  const token = 512;
  expect(full).toEqual({
    window: 0,
    layers: 2,
    bytes: 313 * 16 * 2 * token,
    prefillBytes: 313 * 16 * 2 * token,
    fullBytes: 313 * 16 * 2 * token,
  });
  // 5000 tokens: the last sees 4968 … 4999, which with the next slot lie in blocks 310 to 312. Passes have 1024 tokens:
  // the second and later ones begin 31 before.
  expect(sliding).toEqual({
    window: 32,
    layers: 3,
    bytes: 3 * 16 * 3 * token,
    prefillBytes: 66 * 16 * 3 * token,
    fullBytes: 313 * 16 * 3 * token,
  });
});
