import { StateError } from "../base/errors.ts";

/** In a block table, for positions that have no block any more. */
export const noBlock = -1;

/** The blocks of one sequence: entry i holds the positions from i · blockSize on. */
export class BlockTable {
  readonly entries: number[] = [];
  /** The first entry that still has its block; those before it are `noBlock`. */
  first = 0;

  get heldBlocks(): number {
    return this.entries.length - this.first;
  }
}

/** Hands out the blocks of a paged cache. Numbers only: it touches no device. */
export class BlockManager {
  readonly blockSize: number;
  #blocks = 0;
  /** Popped from the end. */
  #free: number[] = [];

  constructor(blocks: number, blockSize: number) {
    this.blockSize = blockSize;
    this.extend(blocks);
  }

  get blocks(): number {
    return this.#blocks;
  }

  /** Adds blocks up to a new total; they are handed out in rising order, after those that are free already. */
  extend(blocks: number): void {
    const added = Array.from({ length: blocks - this.#blocks }, (_, i) => blocks - 1 - i);
    this.#free = [...added, ...this.#free];
    this.#blocks = blocks;
  }

  get freeBlocks(): number {
    return this.#free.length;
  }

  /** Blocks that `table` lacks to hold the positions below `tokens`. */
  missing(table: BlockTable, tokens: number): number {
    return Math.max(0, Math.ceil(tokens / this.blockSize) - table.entries.length);
  }

  /** Makes `table` long enough for `tokens`; false, with nothing taken, when there are not enough free blocks. */
  grow(table: BlockTable, tokens: number): boolean {
    const missing = this.missing(table, tokens);
    if (missing > this.#free.length) return false;
    for (let i = 0; i < missing; i++) table.entries.push(this.#free.pop()!);
    return true;
  }

  /** Takes back the blocks that hold only positions before `position`. */
  slide(table: BlockTable, position: number): void {
    const end = Math.min(Math.floor(position / this.blockSize), table.entries.length);
    for (; table.first < end; table.first++) {
      this.#takeBack(table.entries[table.first]!);
      table.entries[table.first] = noBlock;
    }
  }

  /** Gives a table blocks again for what it slid away from; false, with nothing taken, when there are not enough. */
  restore(table: BlockTable): boolean {
    if (table.first > this.#free.length) return false;
    while (table.first > 0) table.entries[--table.first] = this.#free.pop()!;
    return true;
  }

  /** Takes back all blocks of a sequence and empties its table. */
  release(table: BlockTable): void {
    for (let i = table.entries.length - 1; i >= table.first; i--) this.#takeBack(table.entries[i]!);
    table.entries.length = 0;
    table.first = 0;
  }

  #takeBack(block: number): void {
    if (this.#free.length === this.#blocks || block < 0 || block >= this.#blocks) {
      throw new StateError(`BlockManager: block ${block} was given back, which it had not handed out`);
    }
    this.#free.push(block);
  }
}
