import type { CausalNetwork } from "../models/network.ts";
import { blockSize, KvCache } from "../nn/kv-cache.ts";
import { BlockManager } from "./block-manager.ts";

/** The cache starts with this many tokens and doubles when it must. */
const initialTokens = 4096;

/**
 * The cache of one network and who holds which of its blocks. It is allocated at first use and grows when the blocks run
 * out, so that nobody has to say beforehand how long conversations will be.
 */
export class PagedCache implements Disposable {
  readonly #network: CausalNetwork;
  readonly #beforeMove: () => void;
  #cache: KvCache | undefined;
  readonly #blocks = new BlockManager(0, blockSize);

  /** `beforeMove` is called, with the device idle, before the cache's addresses change. */
  constructor(network: CausalNetwork, beforeMove: () => void) {
    this.#network = network;
    this.#beforeMove = beforeMove;
  }

  get store(): KvCache {
    if (!this.#cache) {
      this.#cache = new KvCache(this.#network.device, this.#network.cacheShape, initialTokens / blockSize);
      this.#blocks.extend(this.#cache.blocks);
    }
    return this.#cache;
  }

  /** Makes a sequence's block table long enough for `tokens`, enlarging the cache when no block is free. Throws OutOfMemoryError. */
  grow(table: number[], tokens: number): void {
    const { store } = this;
    if (this.#blocks.grow(table, tokens)) return;
    const missing = this.#blocks.blocksFor(tokens) - table.length - this.#blocks.freeBlocks;
    this.#network.device.stream.synchronize();
    this.#beforeMove();
    store.grow(Math.max(2 * store.blocks, store.blocks + missing));
    this.#blocks.extend(store.blocks);
    this.#blocks.grow(table, tokens);
  }

  /** Takes a sequence's blocks back and empties its table. */
  release(table: number[]): void {
    if (table.length > 0) this.#blocks.release(table);
  }

  dispose(): void {
    this.#cache?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
