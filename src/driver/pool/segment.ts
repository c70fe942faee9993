import type { DevicePtr } from "../api.ts";
import type { Stream } from "../stream.ts";
import type { SegmentKind } from "./size-class.ts";

/** One allocation of the driver, cut into blocks that lie side by side without gaps. */
export interface Segment {
  readonly ptr: DevicePtr;
  readonly bytes: number;
  readonly kind: SegmentKind;
  /** Ages segments: the oldest is filled first, so that younger ones empty and can be given back. */
  readonly order: number;
  /** The stream whose order makes reuse safe; changes only when that stream goes away. */
  stream: Stream;
}

/** A piece of a segment. A block is free (in the free list of its stream), live, or waiting for other streams. */
export interface Block {
  readonly segment: Segment;
  /** Bytes from the start of the segment. */
  readonly offset: number;
  bytes: number;
  previous: Block | undefined;
  next: Block | undefined;
  free: boolean;
}

export function wholeBlock(segment: Segment): Block {
  return { segment, offset: 0, bytes: segment.bytes, previous: undefined, next: undefined, free: false };
}

/** Cuts `block` to `bytes` and returns the rest as a new block behind it. */
export function splitBlock(block: Block, bytes: number): Block {
  const rest: Block = {
    segment: block.segment,
    offset: block.offset + bytes,
    bytes: block.bytes - bytes,
    previous: block,
    next: block.next,
    free: false,
  };
  if (block.next) block.next.previous = rest;
  block.next = rest;
  block.bytes = bytes;
  return rest;
}

/** Adds the block behind `block` to it; that one no longer exists afterwards. */
export function absorbNext(block: Block): void {
  const next = block.next;
  if (!next) return;
  block.bytes += next.bytes;
  block.next = next.next;
  if (next.next) next.next.previous = block;
}

export function coversSegment(block: Block): boolean {
  return block.bytes === block.segment.bytes;
}
