import { cacheGroups, kvBytesPerToken } from "../nn/cache-groups.ts";
import { blockSize, type KvCacheShape } from "../nn/kv-cache.ts";
import { type Piece, type PlannedPrompt, passTokens, planPieces } from "./prefill-plan.ts";

/** A decode step stores the key of its own position and looks up the slot of the next. */
export const decodeTokens = 2;

/** Blocks that a sequence needs for queries at the positions `from` … `to - 1`; `window` 0 is all that came before. */
export function heldBlocks(window: number, from: number, to: number): number {
  const oldest = window > 0 ? Math.max(0, from - window + 1) : 0;
  return Math.ceil(to / blockSize) - Math.floor(oldest / blockSize);
}

/** The most blocks that a decoding sequence needs in layers with this window: it may begin and end anywhere in a block. */
export function mostDecodeBlocks(window: number): number {
  return Math.ceil((window + decodeTokens - 2) / blockSize) + 1;
}

/**
 * The most blocks that sequences hold at a time in layers with this window, while these passes fill the cache and after. What
 * is expected to follow counts where everything is kept.
 */
export function prefillBlocks(passes: readonly (readonly Piece[])[], window: number): number {
  const held = new Map<PlannedPrompt, number>();
  let most = 0;
  const note = (blocksOf: (piece: Piece, end: number) => number, pieces: readonly Piece[]) => {
    for (const piece of pieces) held.set(piece.sequence, blocksOf(piece, piece.start + piece.count));
    most = Math.max(
      most,
      [...held.values()].reduce((sum, blocks) => sum + blocks, 0),
    );
  };
  for (const pieces of passes) {
    note(({ start }, end) => heldBlocks(window, start, end), pieces);
    note(({ sequence }, end) => heldBlocks(window, end - 1, end + (window ? 1 : (sequence.more ?? 1))), pieces);
  }
  return most;
}

export interface GroupFootprint {
  readonly window: number;
  readonly layers: number;
  /** What the sequence holds while it decodes, and at most while its prompt is read. */
  readonly bytes: number;
  readonly prefillBytes: number;
  /** What the same layers would hold if they saw everything. */
  readonly fullBytes: number;
}

/** What the cache holds of one sequence whose prompt has `tokens` tokens, by groups of layers. */
export function cacheFootprint(shape: KvCacheShape, tokens: number): GroupFootprint[] {
  const passes = planPieces([{ ids: { length: tokens } }], passTokens(shape));
  const last = Math.max(0, tokens - 1);
  return cacheGroups(shape).map(({ window, layers }) => {
    const bytes = (blocks: number) => blocks * blockSize * kvBytesPerToken(shape, layers.length);
    return {
      window,
      layers: layers.length,
      bytes: bytes(heldBlocks(window, last, last + decodeTokens)),
      prefillBytes: bytes(prefillBlocks(passes, window)),
      fullBytes: bytes(heldBlocks(0, last, last + decodeTokens)),
    };
  });
}
