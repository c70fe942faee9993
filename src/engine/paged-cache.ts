import { OutOfMemoryError } from "../base/errors.ts";
import type { CausalNetwork } from "../models/network.ts";
import { type CacheGroup, cacheGroups } from "../nn/cache-groups.ts";
import { blockSize, KvCache } from "../nn/kv-cache.ts";
import { BlockManager, BlockTable } from "./block-manager.ts";
import { mostDecodeBlocks } from "./cache-plan.ts";

/** Layers that see everything start with at least this many tokens, and grow by at least as many. */
const leastTokens = 4096;

/** What a cache needs to know of a network. */
type CachedNetwork = Pick<CausalNetwork, "device" | "cacheShape">;

/** One sequence's blocks: a table for each group of the cache's layers. */
export interface SequenceBlocks {
  readonly tables: readonly BlockTable[];
}

/**
 * The cache of one network and who holds which of its blocks. It is allocated at first use and grows when the blocks run
 * out, so that nobody has to say beforehand how long conversations will be.
 *
 * Every group of layers has blocks of its own. Layers with a window give back what their sequences have left behind, and
 * those blocks go to the next tokens, of the same sequence or another: work of one stream runs in order, so what a step
 * under way still reads is not overwritten before it ends.
 */
export class PagedCache implements Disposable {
  readonly groups: readonly CacheGroup[];
  readonly #network: CachedNetwork;
  readonly #beforeMove: () => void;
  readonly #managers: readonly BlockManager[];
  #cache: KvCache | undefined;
  #openSequences = 0;

  /** `beforeMove` is called, with the device idle, before the cache's addresses change. */
  constructor(network: CachedNetwork, beforeMove: () => void) {
    this.#network = network;
    this.#beforeMove = beforeMove;
    this.groups = cacheGroups(network.cacheShape);
    this.#managers = this.groups.map(() => new BlockManager(0, blockSize));
  }

  get store(): KvCache {
    return this.#cache ?? this.#create(this.groups.map(() => 0));
  }

  /** Device memory of all groups; 0 before the first use. */
  get sizeBytes(): number {
    return this.#cache?.sizeBytes ?? 0;
  }

  open(): SequenceBlocks {
    this.#openSequences++;
    return { tables: this.groups.map(() => new BlockTable()) };
  }

  /**
   * Makes sure that these sequences can hold `blocks` in each group, so that a prompt's passes need not enlarge the cache one
   * by one. Throws OutOfMemoryError.
   */
  reserve(blocks: readonly number[], sequences: readonly SequenceBlocks[]): void {
    if (!this.#cache) this.#create(blocks);
    for (const [group, count] of blocks.entries()) {
      const held = sequences.reduce((sum, { tables }) => sum + tables[group]!.heldBlocks, 0);
      this.#enlarge(group, count - held - this.#managers[group]!.freeBlocks);
    }
  }

  /** Gives a sequence room for its first `tokens` tokens, enlarging the cache when no block is free. Throws OutOfMemoryError. */
  grow(sequence: SequenceBlocks, tokens: number): void {
    if (!this.#cache) this.#create(this.groups.map(() => 0));
    for (const [group, table] of sequence.tables.entries()) {
      const manager = this.#managers[group]!;
      this.#enlarge(group, manager.missing(table, tokens) - manager.freeBlocks);
      manager.grow(table, tokens);
    }
  }

  /** Takes back the blocks that no query from `position` on sees. */
  slide(sequence: SequenceBlocks, position: number): void {
    for (const [group, { window }] of this.groups.entries()) {
      if (window > 0) this.#managers[group]!.slide(sequence.tables[group]!, position - window + 1);
    }
  }

  /** Gives a sequence blocks again for the positions that it slid away from, whose keys are to be computed anew. */
  restore(sequence: SequenceBlocks): void {
    for (const [group, table] of sequence.tables.entries()) {
      const manager = this.#managers[group]!;
      this.#enlarge(group, table.first - manager.freeBlocks);
      manager.restore(table);
    }
  }

  /** Takes a sequence's blocks back: it is not used any more. */
  close(sequence: SequenceBlocks): void {
    this.#openSequences--;
    for (const [group, table] of sequence.tables.entries()) this.#managers[group]!.release(table);
  }

  #create(wanted: readonly number[]): KvCache {
    const blocks = this.groups.map(({ window }, group) =>
      Math.max(wanted[group]!, window ? mostDecodeBlocks(window) : leastTokens / blockSize),
    );
    this.#cache = new KvCache(this.#network.device, this.#network.cacheShape, blocks);
    for (const [group, count] of blocks.entries()) this.#managers[group]!.extend(count);
    return this.#cache;
  }

  /**
   * Adds `missing` blocks to a group, and a quarter of what it has, so that this happens seldom and wastes little. A group with
   * a window gets no more than what the sequences that are open need to decode.
   */
  #enlarge(group: number, missing: number): void {
    if (missing <= 0) return;
    const { store } = this;
    const { window } = this.groups[group]!;
    const blocks = store.blocks[group]!;
    const least = blocks + missing;
    const generous = blocks + Math.max(leastTokens / blockSize, Math.ceil(blocks / 4));
    const useful = window ? this.#openSequences * mostDecodeBlocks(window) : Number.POSITIVE_INFINITY;
    this.#network.device.stream.synchronize();
    this.#beforeMove();
    try {
      store.grow(group, Math.max(least, Math.min(generous, useful)));
    } catch (error) {
      if (!(error instanceof OutOfMemoryError)) throw error;
      store.grow(group, least);
    }
    this.#managers[group]!.extend(store.blocks[group]!);
  }

  dispose(): void {
    this.#cache?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
