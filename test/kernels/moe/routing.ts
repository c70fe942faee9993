/** Logits that route as a test wants, and the routing kernels run on them. */
import { float32, int32 } from "../../../src/base/dtype.ts";
import type { Device } from "../../../src/driver/device.ts";
import { groupTableInts, routeExperts } from "../../../src/kernels/moe/route.ts";
import { normals, type Output, output, random, upload } from "../../support/gpu.ts";

export interface RoutingShape {
  readonly tokens: number;
  readonly experts: number;
  readonly chosen: number;
}

/**
 * `random`: every token its own experts; `skewed`: all tokens the same k, so that most experts have no row; `uneven`: one
 * expert is everyone's first choice, the others are drawn; `ties`: few different values, so that indices decide.
 */
export const patterns = ["random", "skewed", "uneven", "ties"] as const;
export type Pattern = (typeof patterns)[number];

export function logitsOf(pattern: Pattern, { tokens, experts }: RoutingShape, seed: number): Float32Array {
  const noise = normals(tokens * experts, seed);
  const favourites = Array.from({ length: experts }, random(seed + 1));
  return Float32Array.from(noise, (value, i) => {
    const expert = i % experts;
    if (pattern === "skewed") return 10 * favourites[expert]! + 1e-3 * value;
    if (pattern === "uneven") return expert === experts >> 1 ? 9 + value / 10 : value;
    if (pattern === "ties") return Math.round(value);
    return value;
  });
}

export interface Routed {
  readonly ids: Output;
  readonly weights: Output;
  readonly order: Output;
  readonly table: Output;
}

export function routeOn(
  device: Device,
  logits: Float32Array,
  shape: RoutingShape,
  options: { groupRows: number; normalize?: boolean },
): Routed {
  const { tokens, experts, chosen } = shape;
  const { groupRows, normalize = true } = options;
  const slots = tokens * chosen;
  const routed = {
    ids: output(device, int32, slots),
    weights: output(device, float32, slots),
    order: output(device, int32, slots),
    table: output(device, int32, groupTableInts(slots, experts, groupRows)),
  };
  routeExperts(device.stream, {
    ids: routed.ids.ptr,
    weights: routed.weights.ptr,
    order: routed.order.ptr,
    table: routed.table.ptr,
    logits: upload(device, logits),
    tokens,
    experts,
    chosen,
    normalize,
    groupRows,
  });
  return routed;
}
