import { describe, expect, test } from "vitest";
import { tilesAtOnce, tilesSplit, windows } from "../../src/kernels/lora/tiles.ts";

describe("tiles of rows with one adapter", () => {
  test("K is split where tiles alone leave multiprocessors without work", () => {
    const split = (rows: number, parts: number, maxRank: number, cols: number) =>
      tilesSplit({ rows, parts, maxRank, cols }, 132);
    expect(split(64, 1, 64, 4096)).toBe(4);
    expect(split(64, 1, 64, 14336)).toBe(8);
    expect(split(64, 3, 64, 4096)).toBe(4);
    expect(split(2048, 3, 64, 4096)).toBe(1);
    expect(split(17, 1, 8, 96)).toBe(1);
  });

  test("a window of prompts has a block for each tile of one adapter, a decode step eight", () => {
    expect([windows(1), windows(64), windows(65)]).toEqual([1, 1, 2]);
    expect([17, 128, 129, 4096].map((rows) => tilesAtOnce(rows))).toEqual([8, 8, 4, 4]);
  });
});
