import { LlcudaError } from "../base/errors.ts";
import type { Device } from "../driver/device.ts";
import type { CausalNetwork } from "../models/network.ts";
import { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";
import { decodeTokens } from "./cache-plan.ts";
import type { DecodeBatch } from "./decode-batch.ts";
import { type DecodeSteps, sampleAndAdvance } from "./decode-step.ts";
import { waitForStep } from "./host-poll.ts";
import type { PagedCache, SequenceBlocks } from "./paged-cache.ts";
import { type AdaptedNetwork, prefill } from "./prefill.ts";
import type { TokenEvent, TokenRequest } from "./request.ts";

/**
 * Steps submitted ahead of the last token read, so that the device always has the next one at hand. One that has finished
 * when the call returns gains nothing by that, and what follows the last token would be in vain.
 */
function stepsAhead({ attributes }: Device): number {
  return attributes.synchronous ? 0 : 2;
}

/** Tokens of an answer that the cache has room for from the start: enlarging it after a long prompt copies all of that. */
const shortAnswer = 256;

/** A request while it runs. */
interface Row {
  readonly index: number;
  readonly request: TokenRequest;
  readonly blocks: SequenceBlocks;
  /** Tokens it may add, and those it has added. */
  readonly limit: number;
  readonly answer: number[];
}

export interface EngineStatistics {
  /** Decode steps submitted, and the host's time for them: submitting, reading tokens, bookkeeping; not waiting. */
  decodeSteps: number;
  decodeHostMs: number;
}

/** What a wave works with. */
export interface WaveParts extends AdaptedNetwork {
  readonly cache: PagedCache;
  readonly batch: DecodeBatch;
  readonly steps: DecodeSteps;
  readonly statistics: EngineStatistics;
}

/** Requests that start together: one prefill, then decode steps until the last of them ends. */
export class Wave implements Disposable {
  readonly #network: CausalNetwork;
  readonly #adapted: AdaptedNetwork;
  readonly #cache: PagedCache;
  readonly #statistics: EngineStatistics;
  readonly #rows: readonly Row[];
  readonly #running: Set<Row>;
  readonly #batch: DecodeBatch;
  readonly #steps: DecodeSteps;
  readonly #ahead: number;
  #submitted = 0;

  constructor(parts: WaveParts, requests: readonly TokenRequest[]) {
    this.#network = parts.network;
    this.#adapted = parts;
    this.#cache = parts.cache;
    this.#batch = parts.batch;
    this.#steps = parts.steps;
    this.#statistics = parts.statistics;
    this.#ahead = stepsAhead(parts.network.device);
    const { contextLength } = parts.network;
    this.#rows = requests.map((request, index) => ({
      index,
      request,
      blocks: parts.cache.open(),
      limit: Math.min(request.maxNewTokens, contextLength - request.promptIds.length),
      answer: [],
    }));
    this.#running = new Set(this.#rows);
  }

  async *run(signal?: AbortSignal): AsyncGenerator<TokenEvent, void> {
    signal?.throwIfAborted();
    await this.#begin(signal);
    for (let step = 1; this.#running.size > 0; step++) {
      const begin = performance.now();
      await this.#submitUpTo(step + this.#ahead, signal);
      this.#countHostTime(begin);
      await waitForStep(this.#batch.finishedSteps, step, this.#network.device.stream);
      const received = performance.now();
      signal?.throwIfAborted();
      const events = this.#collect(step);
      this.#countHostTime(received);
      yield* events;
      // The reader of an event may have ended its request.
      for (const row of this.#running) if (row.request.signal?.aborted) this.#retire(row);
    }
  }

  /** Fills the cache with the prompts and draws every row's first token. */
  async #begin(signal?: AbortSignal): Promise<void> {
    const sequences = this.#rows.map(({ request, blocks, limit }) => ({
      ids: request.promptIds,
      blocks,
      adapter: request.adapter,
      more: Math.min(limit, shortAnswer),
    }));
    using last = await prefill(this.#adapted, this.#cache, sequences, { signal });
    tidy(() => {
      const hidden = padRows(last, this.#batch.rows);
      for (const row of this.#rows) this.#cache.grow(row.blocks, this.#position(row, 1) + decodeTokens);
      this.#batch.start(
        this.#rows.map((row) => row.request.promptIds),
        this.#rows.map((row) => row.blocks),
        this.#rows.map((row) => row.request.sampling),
        this.#rows.map((row) => row.request.adapter),
      );
      sampleAndAdvance(this.#adapted, this.#batch, hidden);
    });
    this.#submitted = 1;
  }

  /** Where the token stands that `step` draws from; step 1 draws from the prompt's last, which the prefill computed. */
  #position(row: Row, step: number): number {
    return row.request.promptIds.length + step - 2;
  }

  async #submitUpTo(target: number, signal?: AbortSignal): Promise<void> {
    let longest = 0;
    let last = 0;
    for (const row of this.#running) last = Math.max(last, row.limit);
    for (; this.#submitted < Math.min(target, last); this.#submitted++) {
      const step = this.#submitted + 1;
      const outgrown = this.#outgrown(step);
      // What fills the cache anew must have been read; until then this step waits.
      if (outgrown.some((row) => row.answer.length < step - 2)) return;
      if (outgrown.length > 0) await this.#refill(outgrown, signal);
      for (const row of this.#running) {
        const position = this.#position(row, step);
        this.#movePages(row, position);
        longest = Math.max(longest, position + 1);
      }
      this.#steps.submit(longest);
      this.#statistics.decodeSteps++;
    }
  }

  /** Rows that become longer with `step` than their keys hold: it sees the prompt and what the steps before it drew. */
  #outgrown(step: number): Row[] {
    const { keysHoldUpTo } = this.#network;
    if (keysHoldUpTo === undefined) return [];
    return [...this.#running].filter((row) => this.#position(row, step) === keysHoldUpTo);
  }

  /** Computes the keys of these rows once more, as a sequence that is longer has them. */
  async #refill(rows: readonly Row[], signal?: AbortSignal): Promise<void> {
    const sequences = rows.map(({ request, answer, blocks }) => {
      const ids = [...request.promptIds, ...answer].slice(0, this.#network.keysHoldUpTo);
      return { ids, blocks, adapter: request.adapter, length: ids.length + 1 };
    });
    for (const { blocks } of sequences) this.#cache.restore(blocks);
    const hidden = await prefill(this.#adapted, this.#cache, sequences, { signal });
    hidden.dispose();
  }

  /** Gives back the blocks that the step at `position` leaves behind, and adds those that it needs. */
  #movePages(row: Row, position: number): void {
    const { tables } = row.blocks;
    const before = tables.map(({ entries }) => entries.length);
    this.#cache.slide(row.blocks, position);
    this.#cache.grow(row.blocks, position + decodeTokens);
    for (const [group, { entries }] of tables.entries()) {
      const from = before[group]!;
      if (entries.length > from) this.#batch.setTable({ group, row: row.index, entries, from });
    }
  }

  /** The tokens of a finished step; rows that end with theirs leave the batch. */
  #collect(step: number): TokenEvent[] {
    const events: TokenEvent[] = [];
    for (const row of this.#running) {
      const tokenId = this.#batch.token(step, row.index);
      if (tokenId < 0) {
        throw new LlcudaError(
          "NUMERIC",
          `the model's logits were not numbers at token ${row.answer.length + 1} of request ${row.index}; with float16 this is mostly overflow: load the model in bfloat16 or float32`,
        );
      }
      row.answer.push(tokenId);
      const finish = row.request.stopIds.has(tokenId) ? "stop" : row.answer.length >= row.limit ? "length" : undefined;
      if (finish) this.#retire(row);
      events.push({ request: row.index, tokenId, finish });
    }
    return events;
  }

  #retire(row: Row): void {
    if (!this.#running.delete(row)) return;
    this.#batch.retire(row.index);
    // Later work of this stream is the only one that gets these blocks, and it runs after the row has left.
    this.#cache.close(row.blocks);
  }

  #countHostTime(begin: number): void {
    this.#statistics.decodeHostMs += performance.now() - begin;
  }

  dispose(): void {
    for (const row of [...this.#running]) this.#retire(row);
    this.#network.device.stream.synchronize();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** [n, C] to [rows, C], with zeros below. */
function padRows(x: Tensor, rows: number): Tensor {
  const [n, cols] = x.shape as [number, number];
  if (n === rows) return x;
  const padded = Tensor.zeros([rows, cols], { dtype: x.dtype, device: x.device });
  padded.narrow(0, 0, n).copy_(x);
  return padded;
}
