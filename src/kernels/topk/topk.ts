import type { DType } from "../../base/dtype.ts";
import { type DevicePtr, nullPtr } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { floatDTypes, floatVariant } from "../float-variant.ts";
import { launch } from "../library.ts";
import { defineKernel } from "../spec.ts";

export const topkKernel = defineKernel({
  family: "topk",
  source: "topk/topk.cu",
  args: {
    values: "ptr",
    indices: "ptr",
    candidates: "ptr",
    x: "ptr",
    xStride: "i64",
    cols: "i32",
    k: "i32",
    partSize: "i32",
    merge: "i32",
    parts: "i32",
    wideIndices: "i32",
  },
  axes: { dtype: floatDTypes },
  targets: ["sm_60", "sm_90"],
});

/** The largest k: what one block sorts in shared memory. */
export const topkLimit = 1024;

export interface TopkArgs {
  /** [R, k] in the input's dtype. */
  readonly values: DevicePtr;
  /** [R, k], i32 or, with `wideIndices`, i64. */
  readonly indices: DevicePtr;
  readonly x: DevicePtr;
  /** At least `topkWorkspaceBytes` bytes, 8-byte aligned, not initialised; unused when that is 0. */
  readonly workspace?: DevicePtr;
  readonly rows: number;
  readonly cols: number;
  /** 1 <= k <= min(C, 1024). */
  readonly k: number;
  readonly xStride?: number;
  readonly wideIndices?: boolean;
  readonly dtype: DType;
}

export interface TopkChoice {
  /** Blocks per row. With more than one, each keeps its own k best and a second launch chooses among those. */
  readonly parts: number;
  readonly partSize: number;
}

/** Elements that one block takes of a long row when there are too few rows to fill the device. */
const partElements = 8192;

/** The result does not depend on this choice: (value, lowest index) is a total order. */
export function chooseTopk(rows: number, cols: number, k: number, multiprocessors: number): TopkChoice {
  const parts = Math.ceil(cols / partElements);
  const enoughRows = rows >= multiprocessors;
  // Parts must be much longer than k, or the second launch has as much to read as the first.
  const worthwhile = cols >= 2 * partElements && partElements >= 4 * k;
  return enoughRows || !worthwhile ? { parts: 1, partSize: cols } : { parts, partSize: partElements };
}

export function topkWorkspaceBytes(rows: number, cols: number, k: number, multiprocessors: number): number {
  const { parts } = chooseTopk(rows, cols, k, multiprocessors);
  return parts === 1 ? 0 : rows * parts * k * 8;
}

/**
 * The k largest of each row, largest first; equal values (-0 equals 0) in the order of their indices. NaN is the
 * largest, as in PyTorch. Values are copied bit for bit.
 */
export function topk(stream: Stream, p: TopkArgs): void {
  if (p.rows === 0 || p.k === 0) return;
  const { parts, partSize } = chooseTopk(p.rows, p.cols, p.k, stream.device.attributes.multiprocessors);
  const variant = floatVariant("topk", p.dtype);
  const args = {
    values: p.values,
    indices: p.indices,
    candidates: parts === 1 ? nullPtr : (p.workspace ?? nullPtr),
    x: p.x,
    xStride: BigInt(p.xStride ?? p.cols),
    cols: p.cols,
    k: p.k,
    partSize,
    merge: 0,
    parts,
    wideIndices: p.wideIndices ? 1 : 0,
  };
  const block = chooseTopkThreads(parts === 1 ? p.cols : partSize);
  launch(stream, topkKernel, variant, { grid: [p.rows, parts], block }, args, { overlap: true });
  if (parts === 1) return;
  launch(
    stream,
    topkKernel,
    variant,
    { grid: [p.rows], block: chooseTopkThreads(parts * p.k) },
    { ...args, merge: 1 },
    { overlap: true },
  );
}

/** Threads of a block that chooses among `count` elements: few for the short rows of expert routing. */
export function chooseTopkThreads(count: number): number {
  if (count <= 256) return 64;
  return count <= 2048 ? 256 : 512;
}
