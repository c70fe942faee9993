/**
 * How attention is divided into thread blocks, as pure functions. What decides a result (chunk length, path, tile) depends
 * on the model's shape and on one sequence's own lengths only; the batch and its bounds decide how many blocks are
 * launched, and blocks that find nothing to do leave at once. attention.cuh holds the same numbers for the device.
 */

/** A sequence with at most this many new tokens takes the split path, with more the tiled one. */
export const fewQueries = 8;
/** The split path divides a sequence's visible context into chunks of a multiple of this many tokens, … */
export const chunkUnit = 64;
/** … and into at most this many chunks. */
export const maxSplits = 64;

/** Tokens in a chunk of the split path for a sequence that sees `span` tokens. */
export function chunkTokens(span: number): number {
  return chunkUnit * Math.max(1, Math.ceil(span / (chunkUnit * maxSplits)));
}

/** Chunks of any sequence that sees at most `span` tokens. */
export function splitBound(span: number): number {
  return Math.min(maxSplits, Math.ceil(span / chunkUnit));
}

export interface AttentionShape {
  readonly sequences: number;
  /** Upper bounds of one sequence's new tokens and of its context length. */
  readonly maxQuery: number;
  readonly maxContext: number;
  /** Lower bound of the new tokens of every sequence; without it any may be few. Above `fewQueries` one path is launched. */
  readonly minQuery?: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Tokens that a query sees, its own included; 0 for all. */
  readonly window?: number;
}

export interface SplitPlan {
  /** Query rows (new token, head of the group) that one block serves with one pass over K and V. */
  readonly rows: 1 | 4 | 8;
  readonly rowTiles: number;
  readonly splits: number;
  /** New tokens per sequence that partial results are kept for. */
  readonly queries: number;
  readonly sharedBytes: number;
}

/** Why no kernel here can have a head of D elements, as the end of a sentence; undefined when they can. */
export function headDimRefusal(headDim: number): string | undefined {
  if (headDim % 8 === 0 && headDim >= 8 && headDim <= 256) return undefined;
  return `head_dim is ${headDim}; attention takes multiples of 8 up to 256`;
}

/** Warps of a block of the split path; each leaves its sums in shared memory. */
const splitWarps = 4;

/** The split path's launch, for a batch that may hold a sequence which takes it. On tensor cores eight rows cost what one does. */
export function planSplit(s: AttentionShape, tensorCores: boolean): SplitPlan {
  const group = s.heads / s.kvHeads;
  const rows = tensorCores ? 8 : group === 1 ? 1 : group <= 4 ? 4 : 8;
  const queries = Math.min(fewQueries, s.maxQuery);
  const span = s.window ? Math.min(s.maxContext, s.window + queries - 1) : s.maxContext;
  const sharedBytes = splitWarps * rows * (s.headDim + 2) * 4;
  return { rows, rowTiles: Math.ceil((queries * group) / rows), splits: splitBound(span), queries, sharedBytes };
}

export type TileWidth = "64" | "128" | "256";

/** The head dim that the tiled kernel is compiled for: the next one that holds headDim. */
export function tileWidth(headDim: number): TileWidth {
  return headDim <= 64 ? "64" : headDim <= 128 ? "128" : "256";
}

export interface TilePlan {
  /** Query rows of a block, and keys of a step. */
  readonly rows: number;
  readonly keys: number;
  readonly sharedBytes: number;
  readonly rowTiles: number;
}

const simtTiles = { 64: { rows: 64, keys: 32 }, 128: { rows: 32, keys: 32 }, 256: { rows: 16, keys: 16 } } as const;
const tensorTiles = { 64: { rows: 64, keys: 64 }, 128: { rows: 64, keys: 64 }, 256: { rows: 64, keys: 32 } } as const;

/** The tiled path's launch. Only sequences with more than `fewQueries` new tokens take it. */
export function planTiles(s: AttentionShape, tensorCores: boolean): TilePlan {
  const width = tileWidth(s.headDim);
  const { rows, keys } = tensorCores ? tensorTiles[width] : simtTiles[width];
  // Tensor cores: a tile each of Q, K and V in 16 bit. SIMT, in float32 with rows padded by 4 against bank conflicts:
  // Q, one tile for K and then V, the scores, and a number per row.
  const columns = Number(width);
  const sharedBytes = tensorCores
    ? 2 * columns * (rows + 2 * keys)
    : 4 * ((rows + keys) * (columns + 4) + rows * (keys + 4) + rows);
  const rowTiles = Math.ceil((s.maxQuery * (s.heads / s.kvHeads)) / rows);
  return { rows, keys, sharedBytes, rowTiles };
}
