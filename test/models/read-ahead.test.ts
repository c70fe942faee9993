import { describe, expect, test } from "vitest";
import { readAhead } from "../../src/models/export/read-ahead.ts";

/** Loads numbers, and keeps a diary. */
class Shelf {
  readonly diary: string[] = [];
  alive = 0;
  mostAlive = 0;

  load = async (item: number) => {
    this.diary.push(`load ${item}`);
    await new Promise((resolve) => setImmediate(resolve));
    if (item < 0) throw new Error(`no ${item}`);
    this.mostAlive = Math.max(this.mostAlive, ++this.alive);
    return {
      item,
      [Symbol.dispose]: () => {
        this.alive--;
        this.diary.push(`dispose ${item}`);
      },
    };
  };
}

describe("readAhead", () => {
  test("gives what was loaded in order, two at most, the next under way", async () => {
    const shelf = new Shelf();
    for await (const [item, loaded] of readAhead([1, 2, 3], shelf.load)) {
      expect(loaded.item).toBe(item);
      shelf.diary.push(`use ${item}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(shelf.diary).toEqual([
      ...["load 1", "load 2", "use 1", "dispose 1", "load 3", "use 2", "dispose 2", "use 3", "dispose 3"],
    ]);
    expect([shelf.alive, shelf.mostAlive]).toEqual([0, 2]);
    for await (const _ of readAhead([], shelf.load)) expect.unreachable();
  });

  test("an error comes when its turn does, and nothing stays", async () => {
    const shelf = new Shelf();
    const used: number[] = [];
    const all = async () => {
      for await (const [item] of readAhead([1, 2, -3, 4], shelf.load)) used.push(item);
    };
    await expect(all()).rejects.toThrow("no -3");
    expect([used, shelf.alive]).toEqual([[1, 2], 0]);
  });

  test("who leaves early leaves nothing behind, whatever becomes of the next", async () => {
    for (const next of [2, -2]) {
      const shelf = new Shelf();
      const leave = async () => {
        for await (const [item] of readAhead([1, next, 3], shelf.load)) throw new Error(`left at ${item}`);
      };
      await expect(leave()).rejects.toThrow("left at 1");
      expect(shelf.alive).toBe(0);
    }
  });
});
