import type { DType } from "../../base/dtype.ts";
import type { DevicePtr } from "../../driver/api.ts";
import { ptrAdd } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { floatDTypes, floatTargets, floatVariant } from "../float-variant.ts";
import { launch } from "../library.ts";
import { defineKernel } from "../spec.ts";

export const activationKernel = defineKernel({
  family: "gated_activation",
  source: "activation/activation.cu",
  args: {
    out: "ptr",
    gate: "ptr",
    up: "ptr",
    outStride: "i64",
    gateStride: "i64",
    upStride: "i64",
    rows: "i32",
    cols: "i32",
    kind: "i32",
  },
  axes: { dtype: floatDTypes },
  targets: floatTargets,
});

/** As the kernel numbers them. `gelu` is the tanh approximation. */
export const gateKinds = { silu: 0, gelu: 1 } as const;
export type GateActivation = keyof typeof gateKinds;

export interface GatedActivationArgs {
  /** [R, F]; may be `gate` or `up`, with the same stride. */
  readonly out: DevicePtr;
  /** [R, F]. */
  readonly gate: DevicePtr;
  /** [R, F]. */
  readonly up: DevicePtr;
  readonly activation: GateActivation;
  readonly rows: number;
  readonly cols: number;
  /** Elements from one row to the next; default F. */
  readonly outStride?: number;
  readonly gateStride?: number;
  readonly upStride?: number;
  readonly dtype: DType;
}

/**
 * out = activation(gate) * up, float32 inside, rounded once.
 * silu(x) = x / (1 + e^-x); gelu(x) = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x³))).
 */
export function gatedActivation(stream: Stream, p: GatedActivationArgs): void {
  if (p.rows === 0 || p.cols === 0) return;
  const blockThreads = 128;
  const perBlock = blockThreads * (16 / p.dtype.bytes);
  launch(
    stream,
    activationKernel,
    floatVariant("gatedActivation", p.dtype),
    // Grid y is limited to 65535; the kernel strides over further rows.
    { grid: [Math.ceil(p.cols / perBlock), Math.min(p.rows, 65535)], block: blockThreads },
    {
      out: p.out,
      gate: p.gate,
      up: p.up,
      outStride: BigInt(p.outStride ?? p.cols),
      gateStride: BigInt(p.gateStride ?? p.cols),
      upStride: BigInt(p.upStride ?? p.cols),
      rows: p.rows,
      cols: p.cols,
      kind: gateKinds[p.activation],
    },
    { overlap: true },
  );
}

export interface FusedGateArgs {
  readonly out: DevicePtr;
  /** [R, 2F], contiguous: gate | up, as one matrix product over both weights gives it. */
  readonly gateUp: DevicePtr;
  readonly rows: number;
  /** F. */
  readonly cols: number;
  readonly dtype: DType;
}

function fused(stream: Stream, activation: GateActivation, p: FusedGateArgs): void {
  gatedActivation(stream, {
    out: p.out,
    gate: p.gateUp,
    up: ptrAdd(p.gateUp, p.cols * p.dtype.bytes),
    activation,
    rows: p.rows,
    cols: p.cols,
    gateStride: 2 * p.cols,
    upStride: 2 * p.cols,
    dtype: p.dtype,
  });
}

/** out [R, F] = silu(gateUp[:, :F]) * gateUp[:, F:]. */
export function siluMul(stream: Stream, p: FusedGateArgs): void {
  fused(stream, "silu", p);
}

/** out [R, F] = gelu(gateUp[:, :F]) * gateUp[:, F:], the tanh approximation. */
export function geluMul(stream: Stream, p: FusedGateArgs): void {
  fused(stream, "gelu", p);
}
