/** The tiles of lora-tile.cuh: up to 16 rows with one adapter, of a window of 64 rows. Sizes as its constants say. */

/** From how many rows on a pass is cut into tiles, as the base's products are: fewer may as well be computed one by one. */
export const leastRows = 17;
/** Rows of a window and of a tile. */
const window = 64;
const tileRows = 16;
/** Rows of passes that may be decode steps. */
const decodeRows = 2 * window;
/** Of a block of the first half (lora-shrink-mma.cu): ranks; elements of K that it sums at a time; and parts of K at most. */
const ranks = 16;
const range = 1024;
const mostParts = 8;

export function windows(rows: number): number {
  return Math.ceil(rows / window);
}

/**
 * Blocks that share a window's tiles out. In decode steps all rows may have different adapters, and then there are as many tiles as
 * rows; but blocks that find none cost time, too. Longer passes are prompts, of which windows have one adapter or two.
 */
export function tilesAtOnce(rows: number): number {
  return rows <= decodeRows ? 8 : window / tileRows;
}

export function shrinkRankBlocks(maxRank: number): number {
  return Math.ceil(maxRank / ranks);
}

/** Bytes of the first half's block: the sums of eight warps. */
export const shrinkShared = 8 * ranks * (tileRows + 1) * 4;

interface Sums {
  readonly rows: number;
  readonly parts: number;
  readonly maxRank: number;
  /** K. */
  readonly cols: number;
}

/** Parts of K, a block each: all that there are, until tiles alone keep every multiprocessor busy. */
export function tilesSplit(p: Sums, multiprocessors: number): number {
  const blocks = p.parts * shrinkRankBlocks(p.maxRank) * Math.ceil(p.rows / tileRows);
  return blocks < multiprocessors ? Math.min(mostParts, Math.max(1, Math.ceil(p.cols / range))) : 1;
}
