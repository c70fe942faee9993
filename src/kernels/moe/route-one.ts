import { bfloat16, type DType, float16 } from "../../base/dtype.ts";
import { type DevicePtr, nullPtr } from "../../driver/api.ts";
import type { Device } from "../../driver/device.ts";
import type { Stream } from "../../driver/stream.ts";
import { deviceTargets, launch } from "../library.ts";
import { gemvBatch } from "../matmul/choose.ts";
import { defineKernel } from "../spec.ts";
import { targetNumber } from "../target.ts";
import type { RouteExpertsArgs } from "./route.ts";

export const moeRouteOneKernel = defineKernel({
  family: "moe_route_one",
  source: "moe/moe-route-one.cu",
  args: {
    normed: "ptr",
    ids: "ptr",
    weights: "ptr",
    order: "ptr",
    table: "ptr",
    x: "ptr",
    norm: "ptr",
    router: "ptr",
    cols: "i32",
    experts: "i32",
    k: "i32",
    normalize: "i32",
    eps: "f32",
    offset: "f32",
  },
  axes: { dtype: ["f16", "bf16"] },
  targets: ["sm_90"],
});

/** Constants of moe-route-one.cu. */
const cluster = 8;
const threads = 512;
const [staticSharedBytes, sharedBytes] = [29 * 1024, 64 * 1024];
const limits = { cols: 8192, experts: 1024, chosen: 32 } as const;

/** RMSNorm of the residual stream, which the router and the experts read. */
export interface RouteNorm {
  /** [C]: what the experts are to read. */
  readonly out: DevicePtr;
  /** [C]. */
  readonly weight: DevicePtr;
  readonly eps: number;
  readonly weightOffset: number;
}

export interface RouteOneArgs extends Pick<RouteExpertsArgs, "ids" | "weights" | "order" | "table" | "normalize"> {
  /** [C]. */
  readonly x: DevicePtr;
  /** Without it, x is normed already. */
  readonly norm?: RouteNorm;
  /** [E, C]; no kernel in flight writes it. */
  readonly router: DevicePtr;
  readonly experts: number;
  readonly chosen: number;
  readonly cols: number;
  readonly dtype: DType;
}

/** Whether routeOne() can take such a layer on this device. */
export function canRouteOne(
  device: Device,
  p: Pick<RouteOneArgs, "router" | "experts" | "chosen" | "cols" | "dtype">,
): boolean {
  return (
    (p.dtype === bfloat16 || p.dtype === float16) &&
    targetNumber(deviceTargets(device)[0]!) >= 90 &&
    p.cols % gemvBatch.bf16 === 0 &&
    p.cols <= limits.cols &&
    p.experts <= limits.experts &&
    p.chosen <= limits.chosen &&
    (p.router & 15n) === 0n &&
    device.attributes.sharedPerBlockOptin >= staticSharedBytes + sharedBytes
  );
}

/** What rmsNorm, routerLogits and routeExperts give for one token, bit for bit, in one launch. */
export function routeOne(stream: Stream, p: RouteOneArgs): void {
  launch(
    stream,
    moeRouteOneKernel,
    { dtype: p.dtype === bfloat16 ? "bf16" : "f16" },
    { grid: [cluster], block: threads, sharedBytes },
    {
      normed: p.norm?.out ?? nullPtr,
      ids: p.ids,
      weights: p.weights,
      order: p.order,
      table: p.table,
      x: p.x,
      norm: p.norm?.weight ?? nullPtr,
      router: p.router,
      cols: p.cols,
      experts: p.experts,
      k: p.chosen,
      normalize: p.normalize ? 1 : 0,
      eps: p.norm?.eps ?? 0,
      offset: p.norm?.weightOffset ?? 0,
    },
    { overlap: true },
  );
}
