import type { DType } from "../../base/dtype.ts";
import { float32 } from "../../base/dtype.ts";
import { type DevicePtr, nullPtr, ptrAdd } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { launch } from "../library.ts";
import { matmul } from "../matmul/matmul.ts";
import { defineKernel } from "../spec.ts";
import { maxGroups } from "./plan.ts";

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
  readonly tokens: number;
  readonly experts: number;
  readonly cols: number;
  readonly dtype: DType;
}

/**
 * logits = x · weightᵀ in float32. Always by the kernel `gemv`, eight tokens at a time: a token's logits then have the
 * same bits whatever else is in the batch, and so it goes to the same experts.
 */
export function routerLogits(stream: Stream, p: RouterLogitsArgs): void {
  const rows = 8;
  const whole = Math.floor(p.tokens / rows);
  const product = (first: number, m: number, batch: number): void =>
    matmul(stream, {
      out: ptrAdd(p.logits, first * p.experts * float32.bytes),
      a: ptrAdd(p.x, first * p.cols * p.dtype.bytes),
      b: p.weight,
      m,
      n: p.experts,
      k: p.cols,
      batch,
      batchStrides: { a: rows * p.cols, b: 0, out: rows * p.experts },
      dtype: p.dtype,
      outDtype: float32,
      transposeB: true,
      kernel: "gemv",
      overlap: true,
    });
  if (whole > 0) product(0, rows, whole);
  if (p.tokens > whole * rows) product(whole * rows, p.tokens - whole * rows, 1);
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
