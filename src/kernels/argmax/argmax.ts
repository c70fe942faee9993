import type { DType } from "../../base/dtype.ts";
import { type DevicePtr, nullPtr } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { floatDTypes, floatVariant } from "../float-variant.ts";
import { launch } from "../library.ts";
import { defineKernel } from "../spec.ts";

export const argmaxKernel = defineKernel({
  family: "argmax",
  source: "argmax/argmax.cu",
  args: { out: "ptr", partials: "ptr", x: "ptr", xStride: "i64", cols: "i32", partSize: "i32" },
  axes: { dtype: floatDTypes },
  targets: ["sm_60", "sm_90"],
});

export const argmaxMergeKernel = defineKernel({
  family: "argmax_merge",
  source: "argmax/argmax-merge.cu",
  args: { out: "ptr", partials: "ptr", parts: "i32" },
  axes: {},
  targets: ["sm_60", "sm_90"],
});

export interface ArgmaxArgs {
  /** i32 [R]. */
  readonly out: DevicePtr;
  /** [R, C]. */
  readonly x: DevicePtr;
  /** At least `argmaxWorkspaceBytes` bytes, 8-byte aligned; need not be initialised. */
  readonly workspace: DevicePtr;
  readonly rows: number;
  /** At least 1. */
  readonly cols: number;
  /** Elements from one row to the next; default C. */
  readonly xStride?: number;
  readonly dtype: DType;
}

export interface ArgmaxChoice {
  /** Blocks per row; 1 needs no second kernel. */
  readonly parts: number;
  /** Elements per part, a multiple of 4096 unless it is the whole row. */
  readonly partSize: number;
}

/** What one block takes in one round: 256 threads with 16 elements each. */
const roundSize = 4096;

/** The result does not depend on this choice: the maximum of (value, lowest index) has no order of evaluation. */
export function chooseArgmax(rows: number, cols: number, multiprocessors: number): ArgmaxChoice {
  // One block reads a short row in about the time that a second launch would cost.
  if (cols <= 4 * roundSize) return { parts: 1, partSize: cols };
  // Two blocks per multiprocessor hide the latency of memory; more only lengthen the merge.
  const wanted = Math.max(1, Math.ceil((2 * multiprocessors) / rows));
  const rounds = Math.ceil(cols / roundSize);
  const partSize = Math.ceil(rounds / Math.min(rounds, wanted)) * roundSize;
  const parts = Math.ceil(cols / partSize);
  return parts === 1 ? { parts, partSize: cols } : { parts, partSize };
}

export function argmaxWorkspaceBytes(rows: number, cols: number): number {
  return rows * Math.ceil(cols / roundSize) * 8;
}

/** out[r] = index of the largest x[r, :]; the lowest index among equals (-0 equals 0), and the first NaN if there is one. */
export function argmax(stream: Stream, p: ArgmaxArgs): void {
  if (p.rows === 0) return;
  const { parts, partSize } = chooseArgmax(p.rows, p.cols, stream.device.attributes.multiprocessors);
  launch(
    stream,
    argmaxKernel,
    floatVariant("argmax", p.dtype),
    // Rows are on x, whose limit is 2^31 - 1.
    { grid: [p.rows, parts], block: 256 },
    {
      out: p.out,
      partials: parts === 1 ? nullPtr : p.workspace,
      x: p.x,
      xStride: BigInt(p.xStride ?? p.cols),
      cols: p.cols,
      partSize,
    },
    { overlap: true },
  );
  if (parts === 1) return;
  launch(
    stream,
    argmaxMergeKernel,
    {},
    { grid: [p.rows], block: 32 },
    { out: p.out, partials: p.workspace, parts },
    { overlap: true },
  );
}
