const KiB = 1024;
const MiB = 1024 * KiB;

/** Requests up to this size share small segments, so that they do not break up the large ones. */
export const smallLimitBytes = MiB;
const smallSegmentBytes = 2 * MiB;
/** Requests below this share a segment of `sharedSegmentBytes`; larger ones get a segment of their own size. */
const ownSegmentBytes = 10 * MiB;
const sharedSegmentBytes = 20 * MiB;
/** The driver maps device memory in pages of 2 MiB: a segment that is no multiple of it wastes the rest. */
const pageBytes = 2 * MiB;

const minBlockBytes = 512;
const maxStepBytes = 64 * KiB;

function roundUp(bytes: number, step: number): number {
  return Math.ceil(bytes / step) * step;
}

/**
 * The block size that serves a request: multiples of a sixteenth of the power of two below it, but of 512 bytes at
 * least and of 64 KiB at most. So a size class wastes under 1/16 above 8 KiB, and slightly different sizes (batches of
 * 31 and 32 tokens) reuse each other's blocks.
 */
export function blockBytesFor(bytes: number): number {
  const sixteenth = 2 ** (Math.floor(Math.log2(Math.max(bytes, 1))) - 4);
  return roundUp(bytes, Math.min(Math.max(sixteenth, minBlockBytes), maxStepBytes));
}

export type SegmentKind = "small" | "large";

export function segmentKindFor(blockBytes: number): SegmentKind {
  return blockBytes <= smallLimitBytes ? "small" : "large";
}

/** What to ask the driver for: the size that serves later requests too, then the least that will do. */
export function segmentBytesFor(blockBytes: number): { preferred: number; least: number } {
  if (blockBytes <= smallLimitBytes) return { preferred: smallSegmentBytes, least: smallSegmentBytes };
  const least = roundUp(blockBytes, pageBytes);
  return { preferred: blockBytes < ownSegmentBytes ? sharedSegmentBytes : least, least };
}

/** The least remainder worth a block of its own: in large segments no request is as small as `smallLimitBytes`. */
export function splitsOff(remainderBytes: number, kind: SegmentKind): boolean {
  return kind === "small" ? remainderBytes >= minBlockBytes : remainderBytes > smallLimitBytes;
}
