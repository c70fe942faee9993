import { nullPtr } from "../../driver/api.ts";
import type { Device } from "../../driver/device.ts";
import type { Stream } from "../../driver/stream.ts";
import { launch } from "../library.ts";
import { quantRefusal } from "../quant-matmul/choose.ts";
import type { QuantData, QuantMatmulParams } from "../quant-matmul/params.ts";
import { dequantizeWeight, quantArguments, quantMachine, quantShapeOf } from "../quant-matmul/quant-matmul.ts";
import { rowsFrom } from "../quant-matmul/rows.ts";
import { quantGemvKernel } from "../quant-matmul/specs.ts";
import { type GroupedProductArgs, groupedProduct } from "./grouped.ts";
import { maxGroups } from "./plan.ts";

/** As GroupedProductArgs, with quantized weights. */
export interface GroupedQuantArgs extends Omit<GroupedProductArgs, "b" | "range"> {
  /** [E, N, K], with `gate` [E, 2N, K], as one matrix of all rows; every expert's rows end with a block. */
  readonly weight: QuantData;
  /** Memory for experts that are dequantized, of which there is always one; default 512 MB. */
  readonly slabBytes?: number;
}

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

function multiplyFew(stream: Stream, p: GroupedQuantArgs): void {
  const params = paramsOf(p);
  const { format, dtype } = quantShapeOf(params);
  const groups = maxGroups(p.slots, p.experts, p.plan.groupRows);
  const shape = { grid: [Math.ceil(p.n / 4), groups], block: 128 } as const;
  const grouped = { order: p.order, table: p.table, share: p.share };
  launch(stream, quantGemvKernel, { format, dtype }, shape, { ...quantArguments(params, p.experts), ...grouped });
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
