import { ggmlType } from "../../base/ggml.ts";
import { type GgmlFormat, ggmlFormats } from "../ggml/ggml.ts";

/** How a weight is stored, as the kernels' variants name it: 4-bit codes with a table of levels, or a GGML type. */
export const quantFormats = ["code4", ...ggmlFormats] as const;
export type QuantFormat = (typeof quantFormats)[number];

/** Values that a warp takes at a time: `SPAN` of blocks.cuh. */
export const spanValues = 256;

/** What the layout of shared memory depends on: constants of a format's reader. */
export interface FormatShape {
  /** Of 256 values. For 4-bit codes without absmax. */
  readonly spanBytes: number;
  /** Values that share a scale. */
  readonly group: number;
  readonly hasMin: boolean;
  /** Elements that one row must be a multiple of. */
  readonly block: number;
}

const groupsOf16: readonly QuantFormat[] = ["q2_k", "q3_k", "q6_k"];
const withMin: readonly QuantFormat[] = ["q4_1", "q5_1", "q2_k", "q4_k", "q5_k"];

export function formatShape(format: QuantFormat): FormatShape {
  if (format === "code4") return { spanBytes: 128, group: 64, hasMin: false, block: 64 };
  const { blockElements, blockBytes } = ggmlType(format satisfies GgmlFormat);
  return {
    spanBytes: (spanValues / blockElements) * blockBytes,
    group: groupsOf16.includes(format) ? 16 : 32,
    hasMin: withMin.includes(format),
    block: blockElements,
  };
}

/**
 * Bytes between rows of a span in shared memory: whole 16-byte pieces, one more than the span fills because it may start inside
 * one, and spread so that the 32 bytes that four lanes read at once in four rows lie in different banks.
 */
export function ringPitch(spanBytes: number): number {
  const pieces = Math.ceil(spanBytes / 16) + 1;
  return Math.floor((pieces * 16 + 31) / 64) * 64 + 32;
}

/** Bytes, at most 16, that every row of a GGML weight starts on if the first one does, K being a multiple of 64. */
export function weightAlignment(format: GgmlFormat): number {
  const { blockElements, blockBytes } = ggmlType(format);
  const bytes = blockBytes * Math.max(1, 64 / blockElements);
  return Math.min(16, bytes & -bytes);
}
