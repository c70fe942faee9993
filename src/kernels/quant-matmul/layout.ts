import { formatShape, type QuantFormat, spanValues } from "./formats.ts";

/** Rows of W that a tile of quant-mma.cu has. */
export const quantMmaTile = 16;
/** Warps of a block of quant-mma.cu, at most. */
const mostWarps = 16;

/** Shared memory of a block of quant-mma.cu, in bytes: the arithmetic at the head of that file. */
export interface QuantMmaLayout {
  readonly table: number;
  readonly perWarp: number;
  /** Between rows of x, when x lies in shared memory. */
  readonly xRow: number;
}

export function quantMmaLayout(format: QuantFormat, rows: 8 | 16, k: number): QuantMmaLayout {
  const code4 = format === "code4";
  const { spanBytes, group, hasMin } = formatShape(format);
  const pieces = Math.ceil(spanBytes / 16) + 1;
  const rowPitch = code4 ? 128 : Math.floor((pieces * 16 + 31) / 64) * 64 + 32;
  const stage = quantMmaTile * (rowPitch + (code4 ? 16 : 0));
  const stages = code4 ? 3 : stage <= 3584 ? 3 : 2;
  const scales = quantMmaTile * (spanValues / group) * (hasMin ? 2 : 1) * 4;
  const sums = 2 * rows * (quantMmaTile + 4) * 4;
  // Rows of x are shifted by what lanes of neighbouring rows read at once, so that they meet different banks.
  const shift = code4 ? 16 : format === "q8_0" || format === "q4_k" || format === "q5_k" ? 64 : 32;
  return {
    table: code4 ? 256 * 32 * 4 + 256 * 4 : 0,
    perWarp: stages * stage + scales + sums,
    xRow: Math.ceil((k * 2) / 128) * 128 + shift,
  };
}

/**
 * Warps of a block, and bytes between rows of x in shared memory, 0 where x is read through L1 instead. The warps depend on
 * the format, K and the device alone, because the order of sums depends on them.
 */
export function quantMmaBlock(
  format: QuantFormat,
  m: number,
  k: number,
  sharedBytes: number,
): { readonly warps: number; readonly xRow: number; readonly sharedBytes: number } {
  const widest = quantMmaLayout(format, 16, k);
  const fit = Math.floor((sharedBytes - widest.table) / widest.perWarp);
  const warps = Math.max(1, Math.min(mostWarps, Math.ceil(k / spanValues), fit));
  const { table, perWarp, xRow } = quantMmaLayout(format, m <= 8 ? 8 : 16, k);
  const own = table + warps * perWarp;
  const shared = own + m * xRow <= sharedBytes;
  return { warps, xRow: shared ? xRow : 0, sharedBytes: own + (shared ? m * xRow : 0) };
}
