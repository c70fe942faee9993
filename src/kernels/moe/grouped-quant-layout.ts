import { formatShape, type QuantFormat } from "../quant-matmul/formats.ts";
import { chooseSlices, mmaTile } from "../quant-matmul/layout.ts";
import type { ExpertsMachine } from "./plan.ts";

/** The formats that grouped-quant-mma.cu is built for; products of few rows in others are `quant_gemv`'s. */
export const groupedQuantFormats = ["code4", "q4_0", "q8_0", "q4_k", "q5_k", "q6_k"] as const;
export type GroupedQuantFormat = (typeof groupedQuantFormats)[number];

/** Rows of a group. */
export const groupedQuantRows = 8;

/** Powers of two, so that slices divide them. */
const warpCounts = [16, 8, 4, 2, 1] as const;

/** Shared memory of a block that a warp of it does not add to, and that each warp adds: the constants of grouped-quant-mma.cu. */
export function groupedQuantLayout(format: GroupedQuantFormat): { readonly fixed: number; readonly perWarp: number } {
  const sums = 2 * groupedQuantRows * (mmaTile + 4) * 4;
  const { spanBytes } = formatShape(format satisfies QuantFormat);
  const isCode4 = format === "code4";
  const skewed = !isCode4 && (spanBytes % 16 !== 0 || formatShape(format).block === 32);
  const pieces = Math.ceil(spanBytes / 16) + (skewed ? 1 : 0);
  const pitch = isCode4 ? 128 : Math.floor((pieces * 16 + 31) / 64) * 64 + 32;
  const stage = mmaTile * pitch + (isCode4 ? 256 : 0);
  const stages = stage <= 2560 ? 4 : stage <= 3584 ? 3 : 2;
  return { fixed: isCode4 ? 256 * 128 : 0, perWarp: stages * stage + sums + 4 * groupedQuantRows };
}

export interface GroupedQuantProblem {
  readonly format: GroupedQuantFormat;
  readonly weightRows: number;
  readonly k: number;
  readonly chosen: number;
  /** Rows of x. */
  readonly rows: number;
}

export interface GroupedQuantBlock {
  readonly warps: number;
  readonly slices: number;
  /** Elements between rows of x in shared memory; 0 where they do not fit. */
  readonly xStride: number;
  readonly sharedBytes: number;
}

/** A launch. Warps and slices come from the layer and the device alone, because the order of sums depends on them. */
export function groupedQuantBlock(
  p: GroupedQuantProblem,
  on: Pick<ExpertsMachine, "multiprocessors" | "sharedBytes">,
): GroupedQuantBlock {
  const { fixed, perWarp } = groupedQuantLayout(p.format);
  const warps = warpCounts.find((count) => fixed + count * perWarp <= on.sharedBytes) ?? 1;
  // For a few tokens: those of one leave warps idle, and slices of K then look better than they are for more.
  const tiles = 4 * p.chosen * Math.ceil(p.weightRows / mmaTile);
  const slices = chooseSlices(tiles, Math.ceil(p.k / 256), warps, on.multiprocessors);
  // Rows are shifted by what lanes of neighbouring rows read at once, so that they meet different banks.
  const xStride = Math.ceil(p.k / 64) * 64 + (p.format === "code4" ? 8 : 16);
  const own = fixed + warps * perWarp;
  const withX = own + p.rows * xStride * 2;
  return withX <= on.sharedBytes
    ? { warps, slices, xStride, sharedBytes: withX }
    : { warps, slices, xStride: 0, sharedBytes: own };
}
