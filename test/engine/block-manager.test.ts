import { describe, expect, test } from "vitest";
import { BlockManager, BlockTable, noBlock } from "../../src/engine/block-manager.ts";

describe("BlockManager", () => {
  test("hands out rising blocks and takes them back", () => {
    const blocks = new BlockManager(4, 16);
    const table = new BlockTable();
    expect(blocks.grow(table, 17)).toBe(true);
    expect(table.entries).toEqual([0, 1]);
    expect(blocks.grow(table, 32)).toBe(true);
    expect(table.entries).toEqual([0, 1]);
    expect(blocks.freeBlocks).toBe(2);
    blocks.release(table);
    expect(table.entries).toEqual([]);
    expect(blocks.freeBlocks).toBe(4);
  });

  test("takes nothing when there is not enough", () => {
    const blocks = new BlockManager(2, 16);
    const table = new BlockTable();
    expect(blocks.grow(table, 33)).toBe(false);
    expect(blocks.missing(table, 33)).toBe(3);
    expect(table.entries).toEqual([]);
    expect(blocks.freeBlocks).toBe(2);
  });

  test("takes back what lies wholly before a position, and hands it out again", () => {
    const blocks = new BlockManager(4, 16);
    const table = new BlockTable();
    blocks.grow(table, 64);
    blocks.slide(table, -5);
    blocks.slide(table, 15);
    expect(table.entries).toEqual([0, 1, 2, 3]);
    blocks.slide(table, 33);
    expect(table.entries).toEqual([noBlock, noBlock, 2, 3]);
    expect(table.heldBlocks).toBe(2);
    expect(blocks.grow(table, 96)).toBe(true);
    expect(table.entries).toEqual([noBlock, noBlock, 2, 3, 1, 0]);
    expect(blocks.grow(table, 97)).toBe(false);
    blocks.slide(table, 1000); // past the end: all of them, and no more
    expect(table.heldBlocks).toBe(0);
    expect(blocks.freeBlocks).toBe(4);
    blocks.release(table);
    expect(table.entries).toEqual([]);
    expect(blocks.freeBlocks).toBe(4);
  });

  test("gives a table back what it slid away from, as other blocks, and leaves the rest of it alone", () => {
    const blocks = new BlockManager(4, 16);
    const [table, other] = [new BlockTable(), new BlockTable()];
    blocks.grow(table, 48);
    blocks.slide(table, 32);
    blocks.grow(other, 32);
    expect(blocks.restore(table)).toBe(false);
    expect(table.entries).toEqual([noBlock, noBlock, 2]);
    blocks.slide(other, 16);
    expect(blocks.restore(table)).toBe(true);
    expect(table.heldBlocks).toBe(3);
    expect(table.entries[2]).toBe(2);
    expect(new Set([...table.entries, other.entries[1]]).size).toBe(4);
  });

  test("never hands out a block twice while tables come, slide and go and it is extended", () => {
    const blocks = new BlockManager(8, 4);
    const tables = Array.from({ length: 6 }, () => new BlockTable());
    let seed = 12345;
    const random = (n: number) => {
      seed = (seed * 1103515245 + 12345) % 2147483648;
      return seed % n;
    };
    for (let i = 0; i < 5000; i++) {
      const table = tables[random(6)]!;
      const what = random(4);
      if (what === 0) blocks.release(table);
      else if (what === 1) blocks.slide(table, random(4 * (table.entries.length + 1)));
      else if (!blocks.grow(table, (table.entries.length + random(3)) * 4) && blocks.blocks < 64)
        blocks.extend(blocks.blocks + 3);
      const used = tables.flatMap(({ entries, first }) => entries.slice(first));
      expect(new Set(used).size).toBe(used.length);
      expect(used.length + blocks.freeBlocks).toBe(blocks.blocks);
      expect(used.every((block) => block >= 0 && block < blocks.blocks)).toBe(true);
    }
  });

  test("refuses blocks that it did not hand out", () => {
    const table = new BlockTable();
    table.entries.push(0);
    expect(() => new BlockManager(2, 16).release(table)).toThrow("block 0 was given back");
  });
});
