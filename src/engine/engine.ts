import { ArgumentError, ContextLengthError } from "../base/errors.ts";
import type { CausalNetwork } from "../models/network.ts";
import { blockSize } from "../nn/kv-cache.ts";
import { AdapterSet, type LoadedAdapter } from "../nn/lora/adapter-set.ts";
import { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";
import { DecodeBatch, ringSteps } from "./decode-batch.ts";
import { DecodeSteps } from "./decode-step.ts";
import { logLikelihood, stepRows } from "./log-likelihood.ts";
import { Mutex } from "./mutex.ts";
import { PagedCache } from "./paged-cache.ts";
import { adapterRows, prefillAll } from "./prefill.ts";
import type { TokenEvent, TokenRequest } from "./request.ts";
import { type EngineStatistics, Wave } from "./wave.ts";

/** Rows of the largest batch; more requests run one batch after another. */
const maxRows = 64;

/**
 * Continues sequences of tokens with one network. It owns the cache and the decode graphs; calls that overlap in time
 * take turns. No text here: see generate.ts.
 */
export class Engine implements Disposable {
  readonly network: CausalNetwork;
  readonly adapters: AdapterSet;
  readonly statistics: EngineStatistics = { decodeSteps: 0, decodeHostMs: 0 };
  readonly #lock = new Mutex();
  readonly #batches = new Map<number, { readonly batch: DecodeBatch; readonly steps: DecodeSteps }>();
  readonly #cache: PagedCache;

  constructor(network: CausalNetwork) {
    this.network = network;
    this.adapters = new AdapterSet(network);
    // Graphs hold the cache's addresses.
    this.#cache = new PagedCache(network, () => this.forgetGraphs());
  }

  /** For a network whose parameters have moved. Nothing may be running. */
  forgetGraphs(): void {
    for (const { steps } of this.#batches.values()) steps.clear();
  }

  /** Device memory that the cache of keys and values takes now; it grows with what is asked, and is kept. */
  get cacheBytes(): number {
    return this.#cache.sizeBytes;
  }

  /**
   * Yields the tokens of all requests as they come, each request's in order. Breaking out of the loop or aborting
   * `signal` (which throws its reason) stops the work and frees what it held.
   * Throws ContextLengthError for a prompt that leaves no room, ArgumentError for ids outside the vocabulary.
   */
  async *run(requests: readonly TokenRequest[], signal?: AbortSignal): AsyncGenerator<TokenEvent, void> {
    for (const request of requests) this.#check(request.promptIds);
    const freeAdapters = this.adapters.use(requests.flatMap(({ adapter }) => adapter ?? []));
    try {
      const release = await this.#lock.acquire();
      try {
        for (const part of divide(requests)) {
          const { network, adapters, statistics } = this;
          const parts = { network, adapters, statistics, cache: this.#cache, ...this.#batchFor(part.length) };
          const wave = new Wave(
            parts,
            part.map(({ request }) => request),
          );
          try {
            for await (const event of wave.run(signal)) yield { ...event, request: part[event.request]!.index };
          } finally {
            wave.dispose();
          }
        }
      } finally {
        release();
      }
    } finally {
      freeAdapters();
    }
  }

  /** Logits of every position of one sequence, [T, V], for evaluation. The caller disposes the tensor. */
  logits(ids: readonly number[], adapter?: LoadedAdapter): Promise<Tensor> {
    return this.#read(ids, adapter, (hidden, head) => head(hidden));
  }

  /**
   * log P(ids[i] | ids[0 … i - 1]) for i from `from` (at least 1) on, in natural logarithms: [T - from] float32. Logits are made for some rows
   * at a time, so that a long sequence needs no [T, V]. The caller disposes the tensor.
   */
  logLikelihoods(ids: readonly number[], from: number, adapter?: LoadedAdapter): Promise<Tensor> {
    return this.#read(ids, adapter, (hidden, head) => {
      const parts: Tensor[] = [];
      const step = stepRows(this.network.vocabSize);
      for (let first = from; first < ids.length; first += step) {
        const targets = ids.slice(first, first + step);
        parts.push(tidy(() => logLikelihood(head(hidden.narrow(0, first - 1, targets.length)), targets)));
      }
      return Tensor.cat(parts);
    });
  }

  /** Reads one sequence; `use` gets its hidden states [T, C], and what makes logits [R, V] of rows of them. */
  async #read(
    ids: readonly number[],
    adapter: LoadedAdapter | undefined,
    use: (hidden: Tensor, head: (rows: Tensor) => Tensor) => Tensor,
  ): Promise<Tensor> {
    this.#check(ids, 0);
    const freeAdapter = this.adapters.use(adapter ? [adapter] : []);
    const release = await this.#lock.acquire();
    const blocks = this.#cache.open();
    try {
      return tidy(() =>
        use(prefillAll(this, this.#cache, { ids, blocks, adapter }), (rows) => {
          const { device } = this.network;
          const chosen = adapterRows(device, new Array<typeof adapter>(rows.shape[0]!).fill(adapter));
          return this.adapters.run(chosen, () => this.network.logits(rows));
        }),
      );
    } finally {
      this.#cache.close(blocks);
      release();
      freeAdapter();
    }
  }

  /** The state and the graphs for a batch of at least `rows` rows, kept for the next time. */
  #batchFor(rows: number): { readonly batch: DecodeBatch; readonly steps: DecodeSteps } {
    const size = batchRows(rows);
    let entry = this.#batches.get(size);
    if (!entry) {
      const { device, contextLength, vocabSize } = this.network;
      const maxBlocks = Math.ceil((contextLength + ringSteps) / blockSize);
      const batch = new DecodeBatch(device, { rows: size, maxBlocks, groups: this.#cache.groups.length, vocabSize });
      entry = { batch, steps: new DecodeSteps(this, () => this.#cache.store, batch) };
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
    this.adapters.dispose();
    this.#cache.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

interface NumberedRequest {
  readonly index: number;
  readonly request: TokenRequest;
}

/**
 * The batches that requests run in, one after another: of at most `maxRows`, and in one of its own for each adapter that
 * replaces weights.
 */
export function divide(requests: readonly TokenRequest[]): NumberedRequest[][] {
  const groups = new Map<number | undefined, NumberedRequest[]>();
  for (const [index, request] of requests.entries()) {
    const key = request.adapter?.replacesWeights ? request.adapter.id : undefined;
    const group = groups.get(key);
    if (group) group.push({ index, request });
    else groups.set(key, [{ index, request }]);
  }
  return [...groups.values()].flatMap((group) =>
    Array.from({ length: Math.ceil(group.length / maxRows) }, (_, i) => group.slice(i * maxRows, (i + 1) * maxRows)),
  );
}

/** Batches come in few sizes, so that their graphs are reused: 1 to 8 as they are, then powers of two. */
export function batchRows(rows: number): number {
  if (rows <= 8) return rows;
  return 2 ** Math.ceil(Math.log2(rows));
}
