import { describe, expect, test } from "vitest";
import { BlockManager } from "../../src/engine/block-manager.ts";

describe("BlockManager", () => {
  test("hands out rising blocks and takes them back", () => {
    const blocks = new BlockManager(4, 16);
    const table: number[] = [];
    expect(blocks.grow(table, 17)).toBe(true);
    expect(table).toEqual([0, 1]);
    expect(blocks.grow(table, 32)).toBe(true);
    expect(table).toEqual([0, 1]);
    expect(blocks.freeBlocks).toBe(2);
    blocks.release(table);
    expect(table).toEqual([]);
    expect(blocks.freeBlocks).toBe(4);
  });

  test("takes nothing when there is not enough", () => {
    const blocks = new BlockManager(2, 16);
    const table: number[] = [];
    expect(blocks.grow(table, 33)).toBe(false);
    expect(table).toEqual([]);
    expect(blocks.freeBlocks).toBe(2);
  });

  test("never hands out a block twice while tables come and go and it is extended", () => {
    const blocks = new BlockManager(8, 4);
    const tables: number[][] = Array.from({ length: 6 }, () => []);
    let seed = 12345;
    const random = (n: number) => {
      seed = (seed * 1103515245 + 12345) % 2147483648;
      return seed % n;
    };
    for (let i = 0; i < 5000; i++) {
      const table = tables[random(6)]!;
      if (random(3) === 0) blocks.release(table);
      else if (!blocks.grow(table, (table.length + random(3)) * 4) && blocks.blocks < 64)
        blocks.extend(blocks.blocks + 3);
      const used = tables.flat();
      expect(new Set(used).size).toBe(used.length);
      expect(used.length + blocks.freeBlocks).toBe(blocks.blocks);
      expect(used.every((block) => block >= 0 && block < blocks.blocks)).toBe(true);
    }
  });

  test("refuses blocks that it did not hand out", () => {
    expect(() => new BlockManager(2, 16).release([0])).toThrow("1 blocks were released");
  });
});
