import { cacheGroups } from "../nn/cache-groups.ts";
import type { KvCacheShape } from "../nn/kv-cache.ts";

/** A prompt, of which only the length matters to a plan. */
export interface PlannedPrompt {
  readonly ids: { readonly length: number };
  /** Tokens that are expected to follow, for which the cache makes room beforehand; at least the next one. */
  readonly more?: number;
}

/** New tokens `start … start + count` of one sequence, in one forward pass. */
export interface Piece<Sequence extends PlannedPrompt = PlannedPrompt> {
  readonly sequence: Sequence;
  readonly start: number;
  readonly count: number;
}

/** Tokens of one forward pass: enough to fill a large GPU, few enough that activations stay small beside the weights. */
const mostPassTokens = 4096;
/** Fewer would leave a large GPU's matrix products short of rows. */
const leastPassTokens = 1024;
/** The same where a pass blocks the thread until it is done: little enough that signals get through in between. */
const synchronousPassTokens = 64;

/**
 * Tokens of one forward pass over a cache of this shape. Layers with a window must hold it and the whole pass, so a pass is
 * no longer than the longest window: their part of the cache then stays below two windows.
 */
export function passTokens(shape: KvCacheShape, synchronous = false): number {
  if (synchronous) return synchronousPassTokens;
  const longest = Math.max(...cacheGroups(shape).map(({ window }) => window));
  return longest > 0 ? Math.min(mostPassTokens, Math.max(leastPassTokens, longest)) : mostPassTokens;
}

/** Packs prompts into passes of at most `limit` tokens, in order; a longer prompt is cut. */
export function planPieces<Sequence extends PlannedPrompt>(
  sequences: readonly Sequence[],
  limit: number,
): Piece<Sequence>[][] {
  const passes: Piece<Sequence>[][] = [];
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
