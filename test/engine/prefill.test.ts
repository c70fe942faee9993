import { describe, expect, test } from "vitest";
import { float16 } from "../../src/base/dtype.ts";
import { contextBound } from "../../src/engine/decode-step.ts";
import { batchRows } from "../../src/engine/engine.ts";
import { slotOf } from "../../src/engine/prefill.ts";
import { passTokens, planPieces } from "../../src/engine/prefill-plan.ts";

const prompt = (length: number) => ({ ids: Array.from({ length }, (_, i) => i) });

describe("planPieces", () => {
  test("packs short prompts and cuts long ones, in order", () => {
    const passes = planPieces([prompt(3), prompt(10), prompt(2)], 6).map((pass) => pass.map((p) => [p.start, p.count]));
    expect(passes).toEqual([
      [
        [0, 3],
        [0, 3],
      ],
      [[3, 6]],
      [
        [9, 1],
        [0, 2],
      ],
    ]);
  });

  test("covers every token once, whatever the lengths", () => {
    for (let limit = 1; limit < 9; limit++) {
      const prompts = [1, 7, 8, 2, 16, 3].map(prompt);
      const passes = planPieces(prompts, limit);
      for (const pass of passes) expect(pass.reduce((n, p) => n + p.count, 0) <= limit).toBe(true);
      for (const sequence of prompts) {
        const pieces = passes.flat().filter((p) => p.sequence === sequence);
        expect(pieces.flatMap((p) => sequence.ids.slice(p.start, p.start + p.count))).toEqual(sequence.ids);
      }
    }
  });
});

test("a pass is no longer than the longest window, within bounds", () => {
  const tokens = (...windows: number[]) =>
    passTokens({ layers: windows.length, windows, kvHeads: 1, headDim: 64, dtype: float16 });
  expect([tokens(0, 0), tokens(0, 32), tokens(2048, 0, 1500), tokens(65536)]).toEqual([4096, 1024, 2048, 4096]);
});

test("slotOf follows the block table", () => {
  expect(slotOf([5, 2], 0)).toBe(80);
  expect(slotOf([5, 2], 15)).toBe(95);
  expect(slotOf([5, 2], 16)).toBe(32);
});

test("graphs come in few sizes", () => {
  expect([1, 256, 257, 5000].map(contextBound)).toEqual([256, 256, 512, 8192]);
  expect([1, 3, 8, 9, 16, 17, 64].map(batchRows)).toEqual([1, 3, 8, 16, 16, 32, 64]);
});
