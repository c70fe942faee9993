import { StateError } from "../base/errors.ts";

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

  blocksFor(tokens: number): number {
    return Math.ceil(tokens / this.blockSize);
  }

  /** Makes `table` long enough for `tokens`; false, with nothing taken, when there are not enough free blocks. */
  grow(table: number[], tokens: number): boolean {
    const missing = this.blocksFor(tokens) - table.length;
    if (missing <= 0) return true;
    if (missing > this.#free.length) return false;
    for (let i = 0; i < missing; i++) table.push(this.#free.pop()!);
    return true;
  }

  /** Takes back all blocks of a sequence and empties its table. */
  release(table: number[]): void {
    if (this.#free.length + table.length > this.blocks) {
      throw new StateError(`BlockManager: ${table.length} blocks were released that it had not handed out`);
    }
    for (const block of table.reverse()) this.#free.push(block);
    table.length = 0;
  }
}
