import { ArgumentError, ContextLengthError } from "../base/errors.ts";
import type { CausalNetwork } from "../models/network.ts";
import { blockSize, KvCache } from "../nn/kv-cache.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";
import { BlockManager } from "./block-manager.ts";
import { DecodeBatch, ringSteps } from "./decode-batch.ts";
import { DecodeSteps } from "./decode-step.ts";
import { Mutex } from "./mutex.ts";
import { prefillAll } from "./prefill.ts";
import type { TokenEvent, TokenRequest } from "./request.ts";
import { Wave } from "./wave.ts";

/** Rows of the largest batch; more requests run one batch after another. */
const maxRows = 64;
/** The cache starts with this many tokens and doubles when it must. */
const initialCacheTokens = 4096;

export interface EngineStatistics {
  /** Decode steps submitted, and the host's time for them: submitting, reading tokens, bookkeeping; not waiting. */
  decodeSteps: number;
  decodeHostMs: number;
}

/**
 * Continues sequences of tokens with one network. It owns the cache and the decode graphs; calls that overlap in time
 * take turns. No text here: see generate.ts.
 */
export class Engine implements Disposable {
  readonly network: CausalNetwork;
  readonly statistics: EngineStatistics = { decodeSteps: 0, decodeHostMs: 0 };
  readonly #lock = new Mutex();
  readonly #batches = new Map<number, { readonly batch: DecodeBatch; steps: DecodeSteps }>();
  #cache: KvCache | undefined;
  #blocks: BlockManager | undefined;

  constructor(network: CausalNetwork) {
    this.network = network;
  }

  /**
   * Yields the tokens of all requests as they come, each request's in order. Breaking out of the loop or aborting
   * `signal` (which throws its reason) stops the work and frees what it held.
   * Throws ContextLengthError for a prompt that leaves no room, ArgumentError for ids outside the vocabulary.
   */
  async *run(requests: readonly TokenRequest[], signal?: AbortSignal): AsyncGenerator<TokenEvent, void> {
    for (const request of requests) this.#check(request.promptIds);
    const release = await this.#lock.acquire();
    try {
      for (let first = 0; first < requests.length; first += maxRows) {
        const part = requests.slice(first, first + maxRows);
        const wave = new Wave(this, part);
        try {
          for await (const event of wave.run(signal)) yield { ...event, request: event.request + first };
        } finally {
          wave.dispose();
        }
      }
    } finally {
      release();
    }
  }

  /** Logits of every position of one sequence, [T, V], for evaluation. The caller disposes the tensor. */
  async logits(ids: readonly number[]): Promise<Tensor> {
    this.#check(ids, 0);
    const release = await this.#lock.acquire();
    const table: number[] = [];
    try {
      this.growTable(table, ids.length);
      return tidy(() => this.network.logits(prefillAll(this.network, this.cache, { ids, table })));
    } finally {
      this.releaseTable(table);
      release();
    }
  }

  get cache(): KvCache {
    this.#cache ??= new KvCache(this.network.device, this.network.cacheShape, initialCacheTokens / blockSize);
    return this.#cache;
  }

  /** Gives a sequence blocks for `tokens` tokens, enlarging the cache when none are left. Throws OutOfMemoryError. */
  growTable(table: number[], tokens: number): void {
    const { cache } = this;
    this.#blocks ??= new BlockManager(cache.blocks, blockSize);
    if (this.#blocks.grow(table, tokens)) return;
    const missing = this.#blocks.blocksFor(tokens) - table.length - this.#blocks.freeBlocks;
    this.network.device.stream.synchronize();
    // Graphs hold the cache's old addresses.
    for (const entry of this.#batches.values()) entry.steps.clear();
    cache.grow(Math.max(2 * cache.blocks, cache.blocks + missing));
    this.#blocks.extend(cache.blocks);
    this.#blocks.grow(table, tokens);
  }

  releaseTable(table: number[]): void {
    if (table.length > 0) this.#blocks?.release(table);
  }

  /** The state and the graphs for a batch of at least `rows` rows, kept for the next time. */
  batchFor(rows: number): { readonly batch: DecodeBatch; readonly steps: DecodeSteps } {
    const size = batchRows(rows);
    let entry = this.#batches.get(size);
    if (!entry) {
      const { device, contextLength } = this.network;
      const batch = new DecodeBatch(device, size, Math.ceil((contextLength + ringSteps) / blockSize));
      entry = { batch, steps: new DecodeSteps(this.network, () => this.cache, batch) };
      this.#batches.set(size, entry);
    }
    return entry;
  }

  #check(ids: readonly number[], room = 1): void {
    const { contextLength, vocabSize } = this.network;
    if (ids.length === 0) throw new ArgumentError("the prompt is empty; it must have at least one token");
    if (ids.length + room > contextLength) {
      throw new ContextLengthError(
        `the prompt has ${ids.length} tokens, but this model's context holds ${contextLength}${room ? ", the answer included" : ""}; shorten the prompt`,
        ids.length,
        contextLength,
      );
    }
    const bad = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
    if (bad !== undefined) {
      throw new ArgumentError(
        `the prompt holds token id ${bad}, but this model's ids go from 0 to ${vocabSize - 1}; was it made with another model's tokenizer?`,
      );
    }
  }

  dispose(): void {
    for (const { batch, steps } of this.#batches.values()) {
      steps.dispose();
      batch.dispose();
    }
    this.#batches.clear();
    this.#cache?.dispose();
    this.#cache = undefined;
    this.#blocks = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Batches come in few sizes, so that their graphs are reused: 1 to 8 as they are, then powers of two. */
export function batchRows(rows: number): number {
  if (rows <= 8) return rows;
  return 2 ** Math.ceil(Math.log2(rows));
}
