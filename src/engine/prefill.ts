import { setImmediate as nextTick } from "node:timers/promises";
import { int32 } from "../base/dtype.ts";
import type { Device } from "../driver/device.ts";
import type { CausalNetwork } from "../models/network.ts";
import { gatherRows } from "../nn/embedding.ts";
import type { CachePages, ForwardContext } from "../nn/forward-context.ts";
import { blockSize } from "../nn/kv-cache.ts";
import type { AdapterRows, AdapterSet, LoadedAdapter } from "../nn/lora/adapter-set.ts";
import { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";
import { noBlock } from "./block-manager.ts";
import { prefillBlocks } from "./cache-plan.ts";
import type { PagedCache, SequenceBlocks } from "./paged-cache.ts";
import { type Piece, type PlannedPrompt, passTokens, planPieces } from "./prefill-plan.ts";

/** A prompt and the cache blocks that hold it. */
export interface PrefillSequence extends PlannedPrompt {
  readonly ids: readonly number[];
  readonly blocks: SequenceBlocks;
  readonly adapter?: LoadedAdapter | undefined;
  /** Tokens that the sequence is known to have, where that is more than `ids`. */
  readonly length?: number;
}

/** What a prefill may be told. */
export interface PrefillOptions {
  /** Tokens of one pass; by default passTokens(). */
  readonly limit?: number;
  readonly signal?: AbortSignal | undefined;
}

/** A network with the adapters that its sequences may have. */
export interface AdaptedNetwork {
  readonly network: CausalNetwork;
  readonly adapters: AdapterSet;
}

/**
 * Runs prompts through the network, several short ones or a part of a long one at a time, and fills the cache. Layers with
 * a window give back after each pass what later tokens do not see.
 * Gives the hidden state of each prompt's last token, [B, C]; the caller disposes it. An abort of `signal` between two
 * passes throws its reason. Throws OutOfMemoryError when the cache cannot be enlarged.
 */
export async function prefill(
  adapted: AdaptedNetwork,
  cache: PagedCache,
  sequences: readonly PrefillSequence[],
  options: PrefillOptions = {},
): Promise<Tensor> {
  const { network } = adapted;
  const { device, dtype, hiddenSize } = network;
  const { synchronous } = device.attributes;
  const passes = planPieces(sequences, options.limit ?? passTokens(network.cacheShape, synchronous));
  cache.reserve(
    cache.groups.map(({ window }) => prefillBlocks(passes, window)),
    sequences.map(({ blocks }) => blocks),
  );
  const last = Tensor.empty([sequences.length, hiddenSize], { dtype, device });
  try {
    let finished = 0;
    for (const pieces of passes) {
      for (const { sequence, start, count } of pieces) cache.grow(sequence.blocks, start + count);
      finished += tidy(() => {
        const hidden = forwardPieces(adapted, cache, pieces);
        const ends = lastRows(pieces);
        if (ends.length > 0) {
          const rows = gatherRows(hidden, intTensor(network, ends));
          last.narrow(0, finished, ends.length).copy_(rows);
        }
        return ends.length;
      });
      for (const { sequence, start, count } of pieces) cache.slide(sequence.blocks, start + count);
      if (synchronous) await nextTick();
      options.signal?.throwIfAborted();
    }
    return last;
  } catch (error) {
    last.dispose();
    throw error;
  }
}

/** The hidden states of every token of one prompt, [T, C]; for evaluation, where all logits matter. */
export function prefillAll(adapted: AdaptedNetwork, cache: PagedCache, sequence: PrefillSequence): Tensor {
  cache.grow(sequence.blocks, sequence.ids.length);
  return forwardPieces(adapted, cache, [{ sequence, start: 0, count: sequence.ids.length }]);
}

/** Rows of a pass that are the last token of their prompt. */
function lastRows(pieces: readonly Piece<PrefillSequence>[]): number[] {
  const rows: number[] = [];
  let end = 0;
  for (const { sequence, start, count } of pieces) {
    end += count;
    if (start + count === sequence.ids.length) rows.push(end - 1);
  }
  return rows;
}

function forwardPieces(adapted: AdaptedNetwork, cache: PagedCache, pieces: readonly Piece<PrefillSequence>[]): Tensor {
  const { network, adapters } = adapted;
  const ids = pieces.flatMap(({ sequence, start, count }) => sequence.ids.slice(start, start + count));
  const positions = pieces.flatMap(({ start, count }) => Array.from({ length: count }, (_, i) => start + i));
  const counts = pieces.map(({ count }) => count);
  const contextLengths = pieces.map(({ start, count }) => start + count);
  const queryStarts = [0];
  for (const count of counts) queryStarts.push(queryStarts.at(-1)! + count);
  const sequenceLengths = pieces.map(({ sequence }) => sequence.length ?? sequence.ids.length);
  return tidy(() => {
    const context: ForwardContext = {
      stream: network.device.stream,
      cache: cache.store,
      tokens: ids.length,
      sequences: pieces.length,
      positions: intTensor(network, positions),
      queryStarts: intTensor(network, queryStarts),
      contextLengths: intTensor(network, contextLengths),
      sequenceLengths: intTensor(network, sequenceLengths),
      pages: cache.groups.map((_, group) => pagesOf(network, pieces, group)),
      maxQuery: Math.max(...counts),
      maxContext: Math.max(...contextLengths),
      minQuery: Math.min(...counts),
    };
    const tokenIds = intTensor(network, ids);
    const rows = adapterRows(
      network.device,
      pieces.flatMap(({ sequence, count }) => Array.from({ length: count }, () => sequence.adapter)),
    );
    return adapters.run(rows, () => network.forward(tokenIds, context));
  });
}

/** What a pass needs to know of its rows' adapters; nothing where no row has one. All rows share one that replaces weights. */
export function adapterRows(device: Device, adapters: readonly (LoadedAdapter | undefined)[]): AdapterRows | undefined {
  if (adapters.every((adapter) => adapter === undefined)) return undefined;
  const slots = Tensor.from(
    Int32Array.from(adapters, (adapter) => adapter?.slot ?? -1),
    { dtype: int32, device },
  );
  return { slots, whole: adapters.find((adapter) => adapter?.replacesWeights) };
}

/** Where one group's layers find the pieces' sequences, and put their new tokens. */
function pagesOf(network: CausalNetwork, pieces: readonly Piece<PrefillSequence>[], group: number): CachePages {
  const tables = pieces.map(({ sequence }) => sequence.blocks.tables[group]!.entries);
  const slots = pieces.flatMap(({ start, count }, i) =>
    Array.from({ length: count }, (_, n) => slotOf(tables[i]!, start + n)),
  );
  const maxBlocks = Math.max(...tables.map((table) => table.length));
  const padded = tables.flatMap((table) => Array.from({ length: maxBlocks }, (_, i) => table[i] ?? noBlock));
  return {
    slots: intTensor(network, slots),
    blockTable: intTensor(network, padded).reshape([pieces.length, maxBlocks]),
  };
}

/** Where the key and value of position `p` go. */
export function slotOf(table: readonly number[], p: number): number {
  return table[Math.floor(p / blockSize)]! * blockSize + (p % blockSize);
}

function intTensor(network: CausalNetwork, values: readonly number[]): Tensor {
  return Tensor.from(Int32Array.from(values), { dtype: int32, device: network.device });
}
