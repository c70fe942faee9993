import type { Stream } from "../driver/stream.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { KvCache } from "./kv-cache.ts";

/** Where the layers of one group of the cache find and put the keys and values of a batch. */
export interface CachePages {
  /** [T] where each token's key and value go: block · blockSize + offset; -1 stores nothing. */
  readonly slots: Tensor;
  /** [B, maxBlocks] the cache blocks of each sequence, in order; those past its context or before its window mean nothing. */
  readonly blockTable: Tensor;
}

/**
 * What a batch of tokens is, for one forward pass. Tokens of B sequences lie one after another, T in all; a sequence may
 * bring one new token (decode) or many (prefill, or a chunk of it). All tensors are int32 and live on the device, because
 * a decode step is a graph that is replayed with fixed arguments: what changes between steps is read from memory.
 */
export interface ForwardContext {
  readonly stream: Stream;
  readonly cache: KvCache;
  readonly tokens: number;
  readonly sequences: number;
  /** [T] where each token stands in its sequence, from 0. */
  readonly positions: Tensor;
  /** One for each of the cache's groups. */
  readonly pages: readonly CachePages[];
  /** [B + 1] prefix sums of the sequences' new tokens. */
  readonly queryStarts: Tensor;
  /** [B] tokens that each sequence sees after this pass, the new ones included. */
  readonly contextLengths: Tensor;
  /**
   * [B] tokens that each sequence is known to have in all, which a piece of a prompt is only part of: rotary frequencies may
   * depend on it. By default `contextLengths`.
   */
  readonly sequenceLengths?: Tensor;
  /** Upper bounds of the new tokens of one sequence, and of its context: they size grids and change no result. */
  readonly maxQuery: number;
  readonly maxContext: number;
  /** Lower bound of the new tokens of every sequence: saves launches that would find nothing to do. */
  readonly minQuery?: number;
  /**
   * A kernel of this pass has let no other begin before everything that was queued earlier had ended. Layers may then read
   * this batch's description, and earlier tokens' keys and values, while the kernel before them still runs (launch.cuh).
   */
  readonly settled?: boolean;
}
