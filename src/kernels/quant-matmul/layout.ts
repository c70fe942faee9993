import { spanValues } from "./formats.ts";

/** How a launch of code4-mma.cu divides its work; see quant-mma.cuh. */
export interface MmaBlock {
  readonly warps: number;
  /** Parts of K, each another warp's. */
  readonly slices: number;
  /** Bytes between rows of x in shared memory; 0 where x does not fit and is read through L1. */
  readonly xRow: number;
  readonly sharedBytes: number;
}

export interface MmaProblem {
  readonly m: number;
  /** Rows of W: with a gate, of both halves. */
  readonly rows: number;
  readonly k: number;
}

/** Rows of W that a tile has. */
export const mmaTile = 16;
/** Zeros that stand for rows of x that do not exist. */
const zeroBytes = 128;
/** Powers of two, so that slices divide them. */
const warpCounts = [16, 8, 4, 2, 1] as const;

/** Shared memory of a block for its table, what each warp adds, and a row of x: the constants at the head of code4-mma.cu. */
export function mmaLayout(rows: 8 | 16, k: number) {
  // Rows of x are shifted by what lanes of neighbouring rows read at once, so that they meet different banks.
  const xRow = Math.ceil((k * 2) / 128) * 128 + 16;
  return { table: 256 * 32 * 4 + 256 * 4, perWarp: 2 * rows * (mmaTile + 4) * 4, xRow };
}

/**
 * Warps, slices and shared memory for a product. Warps and slices come from N, K and the device alone, because the order
 * of sums depends on them.
 */
export function mmaBlock(p: MmaProblem, on: { sharedBytes: number; multiprocessors: number }): MmaBlock {
  const spans = Math.ceil(p.k / spanValues);
  const widest = mmaLayout(16, p.k);
  const warps = warpCounts.find((count) => widest.table + count * widest.perWarp + zeroBytes <= on.sharedBytes) ?? 1;
  const { table, perWarp, xRow } = mmaLayout(p.m <= 8 ? 8 : 16, p.k);
  const own = table + warps * perWarp + zeroBytes;
  const fits = own + p.m * xRow <= on.sharedBytes;
  return {
    warps,
    slices: chooseSlices(Math.ceil(p.rows / mmaTile), spans, warps, on.multiprocessors),
    xRow: fits ? xRow : 0,
    sharedBytes: own + (fits ? p.m * xRow : 0),
  };
}

/** How a launch of code4-bulk.cu divides its work. */
export interface BulkBlock {
  readonly warps: number;
  /** Parts of K, each of warps of its own. */
  readonly slices: number;
  /** Warps that share a slice and take tiles in turns. */
  readonly parts: number;
  readonly blocks: number;
  /** Tiles of a group, whose sums are in shared memory at once; a multiple of `parts`. */
  readonly together: number;
  /** Tiles whose absmax is in shared memory at once: all of a block, or those of a group. */
  readonly resident: number;
  readonly sharedBytes: number;
}

/** Constants at the head of code4-bulk.cu: warps at most, bytes of a warp's ring, tables and barriers. */
const bulk = { warps: 16, ringBytes: 2 * mmaTile * 128, fixed: 256 * 256 + 1024 + 1024, mostResident: 32 } as const;

/**
 * Undefined where shared memory is too small for 16 rows. Warps and slices come from K alone, because the order of sums depends on them:
 * as few slices as go through K in as many rounds of spans as `bulk.warps` would.
 */
export function bulkBlock(
  p: { readonly m: number; readonly rows: number; readonly k: number },
  on: { sharedBytes: number; multiprocessors: number },
): BulkBlock | undefined {
  const spans = Math.ceil(p.k / spanValues);
  const slices = Math.ceil(spans / Math.ceil(spans / bulk.warps));
  const parts = Math.floor(bulk.warps / slices);
  const warps = parts * slices;
  const tiles = Math.ceil(p.rows / mmaTile);
  const blocks = Math.min(tiles, on.multiprocessors);
  const most = Math.ceil(tiles / blocks);
  const left = on.sharedBytes - bulk.fixed - warps * bulk.ringBytes;
  const sumsOf = (m: number): number => slices * mmaTile * 4 * m;
  const sums = sumsOf(p.m);
  const absmax = Math.ceil(spans / 8) * mmaTile * 128;
  // As many groups as `fit` tiles in each make necessary, all of about the same size.
  const groupOf = (fit: number): number => {
    const whole = Math.min(Math.floor(fit / parts), Math.ceil(most / parts));
    return whole < 1 ? 0 : Math.ceil(most / Math.ceil(most / (whole * parts)) / parts) * parts;
  };
  // For all M or none, so that no row's bits depend on M.
  if (groupOf(left / (sumsOf(16) + absmax)) === 0) return undefined;
  const byGroup = groupOf(Math.min(left / (sums + absmax), bulk.mostResident));
  // All absmax at once saves waiting for the next group's, but takes space from sums: not for groups less than half as large.
  const withAll = most <= bulk.mostResident ? groupOf((left - most * absmax) / sums) : 0;
  const all = byGroup < most && 2 * withAll >= byGroup;
  const together = all ? withAll : byGroup;
  const resident = all ? most : byGroup;
  const sharedBytes = on.sharedBytes - left + together * sums + resident * absmax;
  return { warps, slices, parts, blocks, together, resident, sharedBytes };
}

/**
 * The number of slices with which the busiest warp finishes first: its rounds of tasks, each as long as its spans and about
 * one span's time for the end of a tile.
 */
export function chooseSlices(tiles: number, spans: number, warps: number, multiprocessors: number): number {
  let best = 1;
  let bestCost = Number.POSITIVE_INFINITY;
  for (let slices = 1; slices <= Math.min(warps, spans); slices *= 2) {
    const rounds = Math.ceil(tiles / (multiprocessors * (warps / slices)));
    const cost = rounds * (Math.ceil(spans / slices) + 1);
    if (cost < bestCost) [best, bestCost] = [slices, cost];
  }
  return best;
}
