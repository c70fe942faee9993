import type { Block } from "./segment.ts";

/** Free blocks of one stream and segment kind, sorted by size, then by age and place of their segment. */
export class FreeList {
  readonly #blocks: Block[] = [];

  get blocks(): readonly Block[] {
    return this.#blocks;
  }

  add(block: Block): void {
    block.free = true;
    this.#blocks.splice(this.#position(block), 0, block);
  }

  remove(block: Block): void {
    block.free = false;
    this.#blocks.splice(this.#position(block), 1);
  }

  /** Takes out the smallest block of at least `bytes`: the best fit. */
  take(bytes: number): Block | undefined {
    let low = 0;
    let high = this.#blocks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#blocks[middle]!.bytes < bytes) low = middle + 1;
      else high = middle;
    }
    const block = this.#blocks[low];
    if (!block) return undefined;
    this.#blocks.splice(low, 1);
    block.free = false;
    return block;
  }

  /** The index of `block`, or where it belongs. */
  #position(block: Block): number {
    let low = 0;
    let high = this.#blocks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compare(this.#blocks[middle]!, block) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function compare(a: Block, b: Block): number {
  return a.bytes - b.bytes || a.segment.order - b.segment.order || a.offset - b.offset;
}
