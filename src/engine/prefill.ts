import { setImmediate as nextTick } from "node:timers/promises";
import { int32 } from "../base/dtype.ts";
import type { CausalNetwork } from "../models/network.ts";
import { gatherRows } from "../nn/embedding.ts";
import type { ForwardContext } from "../nn/forward-context.ts";
import { blockSize, type KvCache } from "../nn/kv-cache.ts";
import { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";

/** A prompt and the cache blocks that hold it. */
export interface PrefillSequence {
  readonly ids: readonly number[];
  readonly table: readonly number[];
  /** Tokens that the sequence is known to have, where that is more than `ids`. */
  readonly length?: number;
}

/** New tokens `start … start + count` of one sequence, in one forward pass. */
interface Piece {
  readonly sequence: PrefillSequence;
  readonly start: number;
  readonly count: number;
}

/** Tokens of one forward pass: enough to fill a large GPU, few enough that activations stay small beside the weights. */
export const prefillChunkTokens = 4096;

/** The same where a pass blocks the thread until it is done: little enough that signals get through in between. */
const synchronousChunkTokens = 64;

/**
 * Runs prompts through the network, several short ones or a part of a long one at a time, and fills the cache.
 * Gives the hidden state of each prompt's last token, [B, C]; the caller disposes it. An abort of `signal` between two
 * passes throws its reason.
 */
export async function prefill(
  network: CausalNetwork,
  cache: KvCache,
  sequences: readonly PrefillSequence[],
  signal?: AbortSignal,
): Promise<Tensor> {
  const { device, dtype, hiddenSize } = network;
  const { synchronous } = device.attributes;
  const last = Tensor.empty([sequences.length, hiddenSize], { dtype, device });
  try {
    let finished = 0;
    for (const pieces of planPieces(sequences, synchronous ? synchronousChunkTokens : prefillChunkTokens)) {
      finished += tidy(() => {
        const hidden = forwardPieces(network, cache, pieces);
        const ends = lastRows(pieces);
        if (ends.length > 0) {
          const rows = gatherRows(hidden, intTensor(network, ends));
          last.narrow(0, finished, ends.length).copy_(rows);
        }
        return ends.length;
      });
      if (synchronous) await nextTick();
      signal?.throwIfAborted();
    }
    return last;
  } catch (error) {
    last.dispose();
    throw error;
  }
}

/** The hidden states of every token of one prompt, [T, C]; for evaluation, where all logits matter. */
export function prefillAll(network: CausalNetwork, cache: KvCache, sequence: PrefillSequence): Tensor {
  return forwardPieces(network, cache, [{ sequence, start: 0, count: sequence.ids.length }]);
}

/** Packs prompts into passes of at most `limit` tokens, in order; a longer prompt is cut. Exported for tests. */
export function planPieces(sequences: readonly PrefillSequence[], limit: number): Piece[][] {
  const passes: Piece[][] = [];
  let room = 0;
  for (const sequence of sequences) {
    for (let start = 0; start < sequence.ids.length; ) {
      if (room === 0) {
        passes.push([]);
        room = limit;
      }
      const count = Math.min(room, sequence.ids.length - start);
      passes.at(-1)!.push({ sequence, start, count });
      start += count;
      room -= count;
    }
  }
  return passes;
}

/** Rows of a pass that are the last token of their prompt. */
function lastRows(pieces: readonly Piece[]): number[] {
  const rows: number[] = [];
  let end = 0;
  for (const { sequence, start, count } of pieces) {
    end += count;
    if (start + count === sequence.ids.length) rows.push(end - 1);
  }
  return rows;
}

function forwardPieces(network: CausalNetwork, cache: KvCache, pieces: readonly Piece[]): Tensor {
  const ids: number[] = [];
  const positions: number[] = [];
  const slots: number[] = [];
  const queryStarts = [0];
  const contextLengths: number[] = [];
  const sequenceLengths = pieces.map(({ sequence }) => sequence.length ?? sequence.ids.length);
  for (const { sequence, start, count } of pieces) {
    for (let p = start; p < start + count; p++) {
      ids.push(sequence.ids[p]!);
      positions.push(p);
      slots.push(slotOf(sequence.table, p));
    }
    queryStarts.push(ids.length);
    contextLengths.push(start + count);
  }
  const maxBlocks = Math.max(...pieces.map((piece) => piece.sequence.table.length));
  const blockTable = pieces.flatMap(({ sequence: { table } }) =>
    Array.from({ length: maxBlocks }, (_, i) => table[i] ?? 0),
  );
  return tidy(() => {
    const context: ForwardContext = {
      stream: network.device.stream,
      cache,
      tokens: ids.length,
      sequences: pieces.length,
      positions: intTensor(network, positions),
      slots: intTensor(network, slots),
      queryStarts: intTensor(network, queryStarts),
      contextLengths: intTensor(network, contextLengths),
      sequenceLengths: intTensor(network, sequenceLengths),
      blockTable: intTensor(network, blockTable).reshape([pieces.length, maxBlocks]),
      maxQuery: Math.max(...pieces.map((piece) => piece.count)),
      maxContext: Math.max(...contextLengths),
      minQuery: Math.min(...pieces.map((piece) => piece.count)),
    };
    return network.forward(intTensor(network, ids), context);
  });
}

/** Where the key and value of position `p` go. */
export function slotOf(table: readonly number[], p: number): number {
  return table[Math.floor(p / blockSize)]! * blockSize + (p % blockSize);
}

function intTensor(network: CausalNetwork, values: readonly number[]): Tensor {
  return Tensor.from(Int32Array.from(values), { dtype: int32, device: network.device });
}
