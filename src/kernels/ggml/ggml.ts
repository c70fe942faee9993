import type { DType } from "../../base/dtype.ts";
import type { GgmlType } from "../../base/ggml.ts";
import { type DevicePtr, nullPtr } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { floatDTypes, floatTargets, floatVariant } from "../float-variant.ts";
import { gridStrideBlocks } from "../grid.ts";
import { launch } from "../library.ts";
import { defineKernel } from "../spec.ts";

/** The quantized types that kernels read; names as in blocks.cuh, which are ggml's in lower case. */
export const ggmlFormats = [
  ...(["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"] as const),
  ...(["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs"] as const),
] as const;
export type GgmlFormat = (typeof ggmlFormats)[number];

/** The reader's name of a type, or undefined for one that has none: plain numbers, and what is not supported. */
export function ggmlFormat(type: GgmlType): GgmlFormat | undefined {
  return ggmlFormats.find((format) => format === type.name.toLowerCase());
}

export const ggmlDequantizeKernel = defineKernel({
  family: "ggml_dequantize",
  source: "ggml/ggml-dequantize.cu",
  args: { out: "ptr", weight: "ptr", ids: "ptr", rows: "i32", cols: "i32", n: "i32", factor: "f32" },
  axes: { type: ggmlFormats, dtype: floatDTypes },
  targets: floatTargets,
});

export interface GgmlDequantizeArgs {
  /** [rows, cols], contiguous, on 16 bytes. */
  readonly out: DevicePtr;
  /** [n, cols] in blocks along the columns; on 16 bytes. */
  readonly blocks: DevicePtr;
  readonly type: GgmlFormat;
  readonly n: number;
  /** A multiple of the type's block. */
  readonly cols: number;
  readonly dtype: DType;
  /** i32 [rows]: the rows to take, as an embedding does. An id outside 0 <= id < n gives a row of NaN. Default all n. */
  readonly ids?: DevicePtr;
  readonly rows?: number;
  /** Multiplies every value, in float32 before it is rounded; default 1. */
  readonly factor?: number;
}

/** Values of GGML blocks: float32 is bit-equal to gguf-py, 16-bit types are that rounded once. */
export function dequantizeGgml(stream: Stream, p: GgmlDequantizeArgs): void {
  const rows = p.rows ?? p.n;
  if (rows === 0 || p.cols === 0) return;
  const items = rows * Math.ceil(p.cols / 256);
  launch(
    stream,
    ggmlDequantizeKernel,
    { type: p.type, ...floatVariant("dequantizeGgml", p.dtype) },
    { grid: [gridStrideBlocks(stream.device, items * 32, 256)], block: 256 },
    { out: p.out, weight: p.blocks, ids: p.ids ?? nullPtr, rows, cols: p.cols, n: p.n, factor: p.factor ?? 1 },
    { overlap: true },
  );
}
