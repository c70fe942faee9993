import type { DType } from "../../base/dtype.ts";
import { type DevicePtr, nullPtr } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { floatDTypes, floatTargets, floatVariant } from "../float-variant.ts";
import { launch } from "../library.ts";
import { defineKernel } from "../spec.ts";

export const moeCombineKernel = defineKernel({
  family: "moe_combine",
  source: "moe/moe-combine.cu",
  args: { out: "ptr", residual: "ptr", y: "ptr", weights: "ptr", tokens: "i32", cols: "i32", k: "i32" },
  axes: { dtype: floatDTypes },
  targets: floatTargets,
});

/** Constants of moe-combine.cu. */
const combineThreads = 128;
const combineColumns = 4;

export interface CombineExpertsArgs {
  /** [T, C]. */
  readonly out: DevicePtr;
  /** [T, C], added; may be `out`. */
  readonly residual?: DevicePtr;
  /** [T · k, C] float32. */
  readonly y: DevicePtr;
  /** [T, k] float32. */
  readonly weights: DevicePtr;
  readonly tokens: number;
  readonly cols: number;
  readonly chosen: number;
  /** Of out and residual. */
  readonly dtype: DType;
}

/** out[t] = residual[t] + Σⱼ weights[t, j] · y[t·k + j], float32 sums in the order of j, rounded once. */
export function combineExperts(stream: Stream, p: CombineExpertsArgs): void {
  if (p.tokens === 0 || p.cols === 0) return;
  const perBlock = combineThreads * combineColumns;
  launch(
    stream,
    moeCombineKernel,
    floatVariant("combineExperts", p.dtype),
    // Grid y is limited to 65535; the kernel strides over further tokens.
    { grid: [Math.ceil(p.cols / perBlock), Math.min(p.tokens, 65535)], block: combineThreads },
    {
      out: p.out,
      residual: p.residual ?? nullPtr,
      y: p.y,
      weights: p.weights,
      tokens: p.tokens,
      cols: p.cols,
      k: p.chosen,
    },
    { overlap: true },
  );
}
