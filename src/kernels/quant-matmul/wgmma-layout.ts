import { formatShape, type QuantFormat, spanValues } from "./formats.ts";
import { type GemmProblem, gemmSplits, gemmTile } from "./gemm-layout.ts";

/** How a launch of code4-wgmma.cu or ggml-wgmma.cu divides its work; see wgmma-gemm.cuh. */
export interface WgmmaBlock {
  /** Rows of x that a block has room for. */
  readonly rows: 64 | 128;
  /** Parts of K, each another block's. */
  readonly splits: number;
  /** Steps of x, and spans of W, in shared memory. */
  readonly xStages: number;
  readonly wStages: number;
  readonly sharedBytes: number;
}

/** Producers, and two warpgroups that multiply. */
export const wgmmaThreads = 384;
/** The most rows of x in a launch. */
export const wgmmaRows = 128;
/** Elements of K in a step of x: two boxes. */
const stepValues = 128;

/** Boxes of a span, and bytes of a row of W in one: BOXES and WIDTH of the decoders. Swizzled, or in banks of their own. */
export const wgmmaBoxes: Partial<Record<QuantFormat, { readonly count: number; readonly width: number }>> = {
  code4: { count: 1, width: spanValues / 2 },
  q4_0: { count: 1, width: 144 },
  q8_0: { count: 2, width: 144 },
  q4_k: { count: 1, width: 144 },
  q5_k: { count: 1, width: 176 },
  q6_k: { count: 1, width: 240 },
};

/** Of a format that `wgmmaBoxes` has. Splits depend on N, K and the device alone, so that no row's bits depend on M. */
export function wgmmaBlock(p: GemmProblem, on: { sharedBytes: number; multiprocessors: number }): WgmmaBlock {
  const { count, width } = wgmmaBoxes[p.format]!;
  const { group, hasMin } = formatShape(p.format);
  const code4 = p.format === "code4";
  const scales = (spanValues / group) * (hasMin ? 2 : 1) * 4;
  const fixed = 1024 + (code4 ? 256 * 32 * 4 : 0);
  const rows = code4 && p.m <= 64 ? 64 : wgmmaRows;
  const xStages = rows === 64 ? 6 : 3;
  const xBytes = xStages * rows * stepValues * 2;
  const span = gemmTile * (count * width + scales);
  const wStages = Math.min(4, Math.floor((on.sharedBytes - fixed - xBytes) / span));
  return {
    rows,
    splits: gemmSplits(p.rows, p.k, on.multiprocessors, 1),
    xStages,
    wStages,
    sharedBytes: fixed + xBytes + wStages * span,
  };
}
