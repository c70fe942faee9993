import type { DType } from "../../base/dtype.ts";
import { float32 } from "../../base/dtype.ts";
import { type DevicePtr, nullPtr, ptrAdd } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { launch } from "../library.ts";
import { type MatmulParams, matmul } from "../matmul/matmul.ts";
import { defineKernel } from "../spec.ts";
import { type GroupedKernelName, maxGroups } from "./plan.ts";

export const moeRouteKernel = defineKernel({
  family: "moe_route",
  source: "moe/moe-route.cu",
  args: {
    ids: "ptr",
    weights: "ptr",
    order: "ptr",
    table: "ptr",
    logits: "ptr",
    tokens: "i32",
    experts: "i32",
    k: "i32",
    normalize: "i32",
    rows: "i32",
  },
  axes: {},
  targets: ["sm_60", "sm_90"],
});

export const moeGroupKernel = defineKernel({
  family: "moe_group",
  source: "moe/moe-group.cu",
  args: { order: "ptr", table: "ptr", ids: "ptr", slots: "i32", experts: "i32", rows: "i32" },
  axes: {},
  targets: ["sm_60", "sm_90"],
});

/** Constants of moe-route.cu and moe-group.cu. */
const routeThreads = 256;
const fewSlots = 128;
const groupThreads = 1024;

export interface RouterLogitsArgs {
  /** [T, E] float32. */
  readonly logits: DevicePtr;
  /** [T, C]. */
  readonly x: DevicePtr;
  /** [E, C]; no kernel in flight writes it. */
  readonly weight: DevicePtr;
  /** The kernel of the products that follow. */
  readonly kernel: GroupedKernelName;
  readonly tokens: number;
  readonly experts: number;
  readonly cols: number;
  readonly dtype: DType;
}

/**
 * logits = x · weightᵀ in float32. Where the products are those for few rows, by the kernel `gemv`, eight tokens at a time;
 * where they are those for many, by one tile of `mma` or `simt`. Either way a token's logits have the same bits whatever
 * else is in the batch, and so it goes to the same experts.
 */
export function routerLogits(stream: Stream, p: RouterLogitsArgs): void {
  const { tokens, experts, cols, dtype } = p;
  const product = (first: number, m: number, how: Partial<MatmulParams>): void =>
    matmul(stream, {
      out: ptrAdd(p.logits, first * experts * float32.bytes),
      a: ptrAdd(p.x, first * cols * dtype.bytes),
      b: p.weight,
      m,
      n: experts,
      k: cols,
      dtype,
      outDtype: float32,
      transposeB: true,
      ...how,
    });
  if (p.kernel === "mma" || p.kernel === "simt") {
    product(0, tokens, p.kernel === "mma" ? { kernel: "mma", tile: "t64x64" } : { kernel: "simt", tile: "t32" });
    return;
  }
  const rows = 8;
  const batch = Math.floor(tokens / rows);
  const rest = tokens - batch * rows;
  const batchStrides = { a: rows * cols, b: 0, out: rows * experts };
  const how = { kernel: "gemv", overlap: true } as const;
  if (batch > 0) product(0, rows, { ...how, batch, batchStrides });
  if (rest > 0) product(batch * rows, rest, how);
}

export interface RouteExpertsArgs {
  /** [T, k] int32 and float32: the chosen experts of every token, best first, and their weights. */
  readonly ids: DevicePtr;
  readonly weights: DevicePtr;
  /** [T · k] int32: the slots (token · k + choice) sorted by expert. */
  readonly order: DevicePtr;
  /** `groupTableInts` int32, 16-byte aligned: which rows of `order` go to which expert, in groups. */
  readonly table: DevicePtr;
  /** [T, E] float32. */
  readonly logits: DevicePtr;
  readonly tokens: number;
  readonly experts: number;
  /** k; at most E. */
  readonly chosen: number;
  /** Whether a token's weights are divided by their sum (`norm_topk_prob`; always so in Mixtral). */
  readonly normalize: boolean;
  /** The most rows of a group (GroupedPlan). */
  readonly groupRows: number;
}

/** Elements of a table of groups. */
export function groupTableInts(slots: number, experts: number, groupRows: number): number {
  return 4 * (1 + maxGroups(slots, experts, groupRows));
}

/** Softmax of the logits, the k best experts, and every slot's place among the rows of its expert; all on the GPU. */
export function routeExperts(stream: Stream, p: RouteExpertsArgs): void {
  if (p.tokens === 0) return;
  const slots = p.tokens * p.chosen;
  const few = slots <= fewSlots;
  launch(
    stream,
    moeRouteKernel,
    {},
    { grid: [few ? 1 : Math.ceil(p.tokens / (routeThreads / 32))], block: routeThreads },
    {
      ids: p.ids,
      weights: p.weights,
      order: few ? p.order : nullPtr,
      table: p.table,
      logits: p.logits,
      tokens: p.tokens,
      experts: p.experts,
      k: p.chosen,
      normalize: p.normalize ? 1 : 0,
      rows: p.groupRows,
    },
    { overlap: true },
  );
  if (few) return;
  launch(
    stream,
    moeGroupKernel,
    {},
    { grid: [p.experts], block: groupThreads, sharedBytes: 4 * p.experts },
    { order: p.order, table: p.table, ids: p.ids, slots, experts: p.experts, rows: p.groupRows },
    { overlap: true },
  );
}
