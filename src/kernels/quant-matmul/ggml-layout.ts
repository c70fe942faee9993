import type { GgmlFormat } from "../ggml/ggml.ts";
import { formatShape, spanValues } from "./formats.ts";
import { mmaTile } from "./layout.ts";

/** How a launch of ggml-mma.cu or ggml-bulk.cu divides its work; see ggml-few.cuh. */
export interface GgmlBlock {
  /** Most rows of x that the kernel is built for: of ggml-mma.cu 2 or 16. */
  readonly rows: "2" | "8" | "16";
  readonly warps: number;
  /** Parts of K, each of warps of its own. */
  readonly slices: number;
  /** Warps that share a slice. */
  readonly parts: number;
  /** Tiles of a step; a multiple of `parts`. */
  readonly together: number;
  readonly blocks: number;
  readonly sharedBytes: number;
}

export interface GgmlProblem {
  readonly format: GgmlFormat;
  readonly m: number;
  /** Rows of W: with a gate, of both halves. */
  readonly rows: number;
  readonly k: number;
}

/** Boxes of a span in ggml-bulk.cu, and bytes of a row of W in one: BOXES and WIDTH of ggml-pairs.cuh. */
export const ggmlBoxes: Partial<Record<GgmlFormat, { readonly count: number; readonly width: number }>> = {
  q4_0: { count: 1, width: 144 },
  q8_0: { count: 2, width: 144 },
  q4_k: { count: 1, width: 144 },
  q5_k: { count: 1, width: 176 },
  q6_k: { count: 1, width: 240 },
};

/** Warps that a block may have. */
const warpCounts = [16, 8, 4, 2, 1] as const;
const levelBytes = 256 * 32 * 4;
const barrierBytes = 32;
/** Items that a warp of ggml-bulk.cu asks for ahead. */
const bulkStages = 2;

/** Bytes of a tile's span in shared memory: constants of the two sources. */
function stageBytes(format: GgmlFormat, bulk: boolean): number {
  const { spanBytes, block } = formatShape(format);
  if (bulk) {
    const { count, width } = ggmlBoxes[format]!;
    return mmaTile * width * count;
  }
  const skewed = block === 32 || spanBytes % 16 !== 0;
  const pieces = 16 * Math.ceil((spanBytes + (skewed ? 30 : 16)) / 16);
  const pitch = skewed ? Math.floor((pieces + 15) / 32) * 32 + 16 : Math.floor((pieces + 31) / 64) * 64 + 32;
  return mmaTile * pitch;
}

/** Shared memory of a block that its warps share, and that each adds, but for sums. */
function ringBytes(format: GgmlFormat, rows: 2 | 8 | 16, bulk: boolean) {
  const levels = format === "iq4_nl" || format === "iq4_xs";
  const stage = stageBytes(format, bulk);
  const stages = bulk ? bulkStages : stage <= 3584 ? 3 : 2;
  const { group, hasMin } = formatShape(format);
  const xSums = hasMin && rows > 2 ? (spanValues / group) * rows * 4 : 0;
  return {
    shared: levels ? levelBytes : 0,
    perWarp: stages * stage + xSums + (bulk ? barrierBytes : 0),
  };
}

/**
 * Warps, slices and shared memory for a product; undefined where shared memory does not hold one warp. Warps and slices come
 * from the format, K and the device alone, because the order of sums depends on them: as few slices as go through K in as many
 * rounds of spans as all warps would.
 */
export function ggmlBlock(
  p: GgmlProblem,
  on: { sharedBytes: number; multiprocessors: number },
  bulk: boolean,
): GgmlBlock | undefined {
  const widest = ringBytes(p.format, 16, bulk);
  const tileBytes = mmaTile * 4;
  const most = warpCounts.find((n) => widest.shared + n * (widest.perWarp + 16 * tileBytes) <= on.sharedBytes);
  if (most === undefined) return undefined;
  const spans = Math.ceil(p.k / spanValues);
  const slices = Math.ceil(spans / Math.ceil(spans / most));
  const parts = Math.floor(most / slices);
  const warps = slices * parts;

  const rows = p.m <= 2 ? 2 : bulk && p.m <= 8 ? 8 : 16;
  const tiles = Math.ceil(p.rows / mmaTile);
  const blocks = Math.min(tiles, on.multiprocessors);
  const { shared, perWarp } = ringBytes(p.format, rows, bulk);
  const fixed = shared + warps * perWarp;
  const stepBytes = warps * p.m * tileBytes; // of `parts` tiles
  const rounds = Math.ceil(tiles / blocks / parts);
  const steps = Math.ceil(rounds / Math.floor((on.sharedBytes - fixed) / stepBytes));
  const together = Math.ceil(rounds / steps) * parts;
  return {
    rows: `${rows}`,
    warps,
    slices,
    parts,
    together,
    blocks,
    sharedBytes: fixed + (together / parts) * stepBytes,
  };
}
