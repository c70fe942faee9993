import type { DType } from "../../base/dtype.ts";
import { type DevicePtr, nullPtr } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { floatDTypes, floatTargets, floatVariant } from "../float-variant.ts";
import { launch } from "../library.ts";
import { chooseRowBlock } from "../row-block.ts";
import { defineKernel } from "../spec.ts";

export const rmsNormKernel = defineKernel({
  family: "rms_norm",
  source: "rms-norm/rms-norm.cu",
  args: {
    out: "ptr",
    x: "ptr",
    addend: "ptr",
    weight: "ptr",
    outStride: "i64",
    outHeadStride: "i64",
    xStride: "i64",
    xHeadStride: "i64",
    addendStride: "i64",
    rows: "i32",
    heads: "i32",
    cols: "i32",
    eps: "f32",
    weightOffset: "f32",
  },
  axes: { dtype: floatDTypes },
  targets: floatTargets,
});

export interface RmsNormArgs {
  /** [R, heads, C]; may be `x` or `addend`, with the same strides. */
  readonly out: DevicePtr;
  /** [R, heads, C]. */
  readonly x: DevicePtr;
  /** [R, C], only with heads = 1: added to the result before that is rounded. */
  readonly addend?: DevicePtr;
  /** [C]. */
  readonly weight: DevicePtr;
  readonly rows: number;
  readonly cols: number;
  /** Vectors to normalise in each row (default 1): the heads of a fused QKV row are normalised in place with it. */
  readonly heads?: number;
  /** Elements from one row to the next; default heads * C. */
  readonly xStride?: number;
  readonly outStride?: number;
  readonly addendStride?: number;
  /** Elements from one head of a row to the next; default C. */
  readonly xHeadStride?: number;
  readonly outHeadStride?: number;
  readonly eps: number;
  /** Added to the weight in float32; 1 for Gemma, default 0. */
  readonly weightOffset?: number;
  readonly dtype: DType;
}

/**
 * out = x * rsqrt(mean(x²) + eps) * (weight + weightOffset) over the last dimension, plus `addend` where there is one.
 * Float32 inside, rounded once. Source: arXiv 1910.07467.
 */
export function rmsNorm(stream: Stream, p: RmsNormArgs): void {
  const heads = p.heads ?? 1;
  const vectors = p.rows * heads;
  if (vectors === 0 || p.cols === 0) return;
  const block = chooseRowBlock(p.cols);
  const rowLength = heads * p.cols;
  launch(
    stream,
    rmsNormKernel,
    floatVariant("rmsNorm", p.dtype),
    { grid: [Math.ceil(vectors / block.rows)], block: [block.threads, block.rows] },
    {
      out: p.out,
      x: p.x,
      addend: p.addend ?? nullPtr,
      weight: p.weight,
      outStride: BigInt(p.outStride ?? rowLength),
      outHeadStride: BigInt(p.outHeadStride ?? p.cols),
      xStride: BigInt(p.xStride ?? rowLength),
      xHeadStride: BigInt(p.xHeadStride ?? p.cols),
      addendStride: BigInt(p.addendStride ?? rowLength),
      rows: p.rows,
      heads,
      cols: p.cols,
      eps: p.eps,
      weightOffset: p.weightOffset ?? 0,
    },
    { overlap: true },
  );
}
