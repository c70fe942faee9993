import { UnsupportedError } from "../../base/errors.ts";
import { nullPtr } from "../../driver/api.ts";
import type { Device } from "../../driver/device.ts";
import type { Stream } from "../../driver/stream.ts";
import { launch } from "../library.ts";
import { type QuantMachine, type QuantShape, quantRefusal } from "../quant-matmul/choose.ts";
import { mmaTile } from "../quant-matmul/layout.ts";
import type { QuantData, QuantMatmulParams } from "../quant-matmul/params.ts";
import { dequantizeWeight, quantArguments, quantMachine, quantShapeOf } from "../quant-matmul/quant-matmul.ts";
import { rowsFrom } from "../quant-matmul/rows.ts";
import { quantArgs, quantGemvKernel } from "../quant-matmul/specs.ts";
import { defineKernel } from "../spec.ts";
import { earlyTable, type GroupedProductArgs, groupedProduct } from "./grouped.ts";
import { type GroupedQuantFormat, groupedQuantBlock, groupedQuantFormats } from "./grouped-quant-layout.ts";
import { maxGroups } from "./plan.ts";

/** As GroupedProductArgs, with quantized weights. */
export interface GroupedQuantArgs extends Omit<GroupedProductArgs, "b" | "range"> {
  /** [E, N, K], with `gate` [E, 2N, K], as one matrix of all rows; every expert's rows end with a block. */
  readonly weight: QuantData;
  /** Memory for experts that are dequantized, of which there is always one; default 512 MB. */
  readonly slabBytes?: number;
  /** Forces one of the kernels for few rows, for tests and benchmarks; throws UnsupportedError where it cannot. */
  readonly kernel?: "gemv" | "mma";
}

export const groupedQuantMmaKernel = defineKernel({
  family: "grouped_quant_mma",
  source: "moe/grouped-quant-mma.cu",
  args: { ...quantArgs, order: "ptr", table: "ptr", share: "i32", slices: "i32", xStride: "i32" },
  axes: { format: groupedQuantFormats, dtype: ["f16", "bf16"], rows: ["8"] },
  targets: ["sm_80", "sm_90"],
});

const defaultSlabBytes = 512e6;

/** What decides whether a quantized weight can be multiplied as it is stored. */
export type QuantProductShape = Pick<GroupedQuantArgs, "weight" | "n" | "k" | "gate" | "dtype">;

/** Whether products of few rows read the weight as it is stored; if not, planExperts must be told so. */
export function multipliesQuantized(device: Device, p: QuantProductShape): boolean {
  const { weight, n, k, dtype, gate } = p;
  const shape = quantShapeOf({ out: nullPtr, x: nullPtr, weight, m: 8, n, k, dtype, ...(gate && { gate }) });
  return quantRefusal("gemv", shape, quantMachine(device)) === undefined;
}

/**
 * groupedProduct with quantized weights. With a plan for few rows they are multiplied as they are stored. With one for many
 * they are dequantized to the input's type, rounded once, as many experts at a time as `slabBytes` hold.
 */
export function groupedQuantProduct(stream: Stream, p: GroupedQuantArgs): void {
  if (p.slots === 0 || p.n === 0) return;
  const { kernel } = p.plan;
  if (kernel === "gemv" || kernel === "gemv_mma") multiplyFew(stream, p);
  else multiplyInSlabs(stream, p);
}

/** Why the tensor-core kernel cannot compute a product, as the end of a sentence; undefined when it can. */
function mmaRefusal(shape: QuantShape, machine: QuantMachine): string | undefined {
  if (shape.rounded) return "it does not round values to another type than it multiplies";
  if (shape.nested) return "it reads float32 absmax";
  if (!groupedQuantFormats.some((format) => format === shape.format)) return `it is not built for ${shape.format}`;
  return quantRefusal("mma", shape, machine);
}

function multiplyFew(stream: Stream, p: GroupedQuantArgs): void {
  const params = paramsOf(p);
  const shape = { ...quantShapeOf(params), m: p.plan.groupRows };
  const groups = maxGroups(p.slots, p.experts, p.plan.groupRows);
  const machine = quantMachine(stream.device);
  const refusal = mmaRefusal(shape, machine);
  const kernel = p.kernel ?? (refusal === undefined ? "mma" : "gemv");
  const args = { ...quantArguments(params, p.experts), order: p.order, table: p.table, share: p.share };
  const { format, dtype } = shape;
  if (kernel === "gemv") {
    const grid = [Math.ceil(p.n / 4), groups] as const;
    launch(stream, quantGemvKernel, { format, dtype }, { grid, block: 128 }, args);
    return;
  }
  if (refusal !== undefined) {
    throw new UnsupportedError(
      `groupedQuantProduct: the kernel "mma" cannot compute a ${dtype} product of N = ${p.n}, K = ${p.k} with ${format} on ${stream.device.name}: ${refusal}`,
    );
  }
  const weightRows = p.gate ? 2 * p.n : p.n;
  const ofKernel = format as GroupedQuantFormat;
  const block = groupedQuantBlock({ format: ofKernel, weightRows, k: p.k, chosen: p.chosen, rows: params.m }, machine);
  launch(
    stream,
    groupedQuantMmaKernel,
    { format: ofKernel, dtype: dtype === "bf16" ? "bf16" : "f16", rows: "8" },
    {
      grid: [Math.min(machine.multiprocessors, groups * Math.ceil(weightRows / mmaTile))],
      block: 32 * block.warps,
      sharedBytes: block.sharedBytes,
    },
    { ...args, flags: args.flags | (p.followsProduct ? earlyTable : 0), slices: block.slices, xStride: block.xStride },
    { overlap: true },
  );
}

function paramsOf(p: GroupedQuantArgs): QuantMatmulParams {
  const { out, a: x, weight, n, k, dtype, outDtype = dtype, gate } = p;
  return { out, x, weight, m: p.slots / p.share, n, k, dtype, outDtype, ...(gate && { gate }) };
}

function multiplyInSlabs(stream: Stream, p: GroupedQuantArgs): void {
  const { weight, experts, k, dtype, slabBytes = defaultSlabBytes } = p;
  const rows = p.gate ? 2 * p.n : p.n;
  const expertBytes = rows * k * dtype.bytes;
  const slabs = Math.ceil(experts / Math.max(1, Math.floor(slabBytes / expertBytes)));
  const most = Math.ceil(experts / slabs);
  using workspace = stream.device.allocate(Math.max(16, most * expertBytes), { tag: "dequantized experts" });
  for (let first = 0; first < experts; first += most) {
    const end = Math.min(first + most, experts);
    const slab = rowsFrom(weight, k, first * rows);
    dequantizeWeight(stream, slab, { out: workspace.ptr, rows: (end - first) * rows, k, dtype });
    groupedProduct(stream, { ...p, b: workspace.ptr, range: { first, end }, followsProduct: false });
  }
}
