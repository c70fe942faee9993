import { formatShape, type QuantFormat, ringPitch, spanValues } from "./formats.ts";

/** How a launch of quant-gemm.cuh divides its work. */
export interface GemmBlock {
  /** Parts of K, each another block's. */
  readonly splits: number;
  /** Rows of x that a block takes. */
  readonly passRows: number;
  /** Steps of x, and spans of W, in shared memory. */
  readonly xStages: number;
  readonly wStages: number;
  readonly sharedBytes: number;
}

export interface GemmProblem {
  readonly format: QuantFormat;
  readonly m: number;
  /** Rows of W: with a gate, of both halves. */
  readonly rows: number;
  readonly k: number;
}

/** Constants of gemm-place.cuh and gemm-rings.cuh: rows of W in a tile, the most rows of x, elements of K in a step. */
export const gemmTile = 128;
export const gemmRows = 64;
const stepValues = 128;
/** Threads of a block. */
export const gemmThreads = { gemm: 512, wmma: 256 } as const;
/** Sums of two slices, on their way to D. */
const sumsBytes = 2 * gemmRows * (gemmTile + 4) * 4;

/** Formats by their number in ggml-gemm.cu and quant-wmma.cu. */
export const gemmTypes: readonly QuantFormat[] = [
  "q4_0",
  "q4_1",
  "q5_0",
  "q5_1",
  "iq4_nl",
  "iq4_xs",
  "q2_k",
  "q3_k",
  "q6_k",
  "q8_0",
  "q4_k",
  "q5_k",
  "code4",
];

/**
 * Shared memory: what is there once, a step of 16 rows of x, and from one row of W to the next in a span; the constants of
 * code4-gemm.cu and ggml-gemm.cu.
 */
export function gemmLayout(format: QuantFormat) {
  const step = 16 * stepValues * 2;
  if (format === "code4") return { fixed: 256 * 32 * 4 + 256 * 4 + 4096, step, pitch: spanValues / 2 };
  return { fixed: gemmTile * 2 * 8 * 4, step, pitch: ringPitch(formatShape(format).spanBytes) };
}

/** Rings, deepest first. A span is two steps: W must be asked for as early as x. */
const rings = [
  [4, 4],
  [3, 3],
  [3, 2],
  [2, 2],
] as const;

/** Rows and rings that fit; undefined where not even the smallest do. Splits depend on N, K and the device alone. */
export function gemmBlock(p: GemmProblem, on: { sharedBytes: number; multiprocessors: number }): GemmBlock | undefined {
  const { fixed, step, pitch } = gemmLayout(p.format);
  for (const passRows of [64, 32]) {
    for (const [xStages, wStages] of rings) {
      const sharedBytes = Math.max(sumsBytes, fixed + xStages * step * (passRows / 16) + wStages * gemmTile * pitch);
      if (sharedBytes > on.sharedBytes) continue;
      return { splits: gemmSplits(p.rows, p.k, on.multiprocessors), passRows, xStages, wStages, sharedBytes };
    }
  }
  return undefined;
}

/** Blocks for most multiprocessors, and no part of K shorter than `leastSpans`. From N, K and the device only. */
export function gemmSplits(rows: number, k: number, multiprocessors: number, leastSpans = 2): number {
  const tiles = Math.ceil(rows / gemmTile);
  const spans = Math.ceil(k / spanValues);
  return Math.max(1, Math.min(Math.floor(multiprocessors / tiles), Math.floor(spans / leastSpans)));
}
