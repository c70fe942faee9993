import type { DType } from "../../base/dtype.ts";
import type { DevicePtr } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { floatDTypes, floatTargets, floatVariant } from "../float-variant.ts";
import { launch } from "../library.ts";
import { chooseRowBlock } from "../row-block.ts";
import { defineKernel } from "../spec.ts";

export const softmaxKernel = defineKernel({
  family: "softmax",
  source: "softmax/softmax.cu",
  args: { out: "ptr", x: "ptr", outStride: "i64", xStride: "i64", rows: "i32", cols: "i32", scale: "f32" },
  axes: { dtype: floatDTypes },
  targets: floatTargets,
});

export interface SoftmaxArgs {
  /** [R, C]; may be `x`, with the same stride. */
  readonly out: DevicePtr;
  /** [R, C]. */
  readonly x: DevicePtr;
  readonly rows: number;
  readonly cols: number;
  /** Elements from one row to the next; default C. */
  readonly xStride?: number;
  readonly outStride?: number;
  /** Multiplies x first; default 1. */
  readonly scale?: number;
  readonly dtype: DType;
}

/**
 * out[r, :] = softmax(x[r, :] * scale), float32 inside. As in PyTorch, a row that is -inf throughout, or that holds
 * +inf or NaN, becomes NaN.
 */
export function softmax(stream: Stream, p: SoftmaxArgs): void {
  if (p.rows === 0 || p.cols === 0) return;
  const block = chooseRowBlock(p.cols);
  launch(
    stream,
    softmaxKernel,
    floatVariant("softmax", p.dtype),
    { grid: [Math.ceil(p.rows / block.rows)], block: [block.threads, block.rows] },
    {
      out: p.out,
      x: p.x,
      outStride: BigInt(p.outStride ?? p.cols),
      xStride: BigInt(p.xStride ?? p.cols),
      rows: p.rows,
      cols: p.cols,
      scale: p.scale ?? 1,
    },
    { overlap: true },
  );
}
