import type { Tensor } from "../tensor.ts";
import { floatOnly } from "./check.ts";
import { launchRandom } from "./pending.ts";

export type Distribution = "uniform" | "normal";

/** Overwrites a contiguous float tensor with random numbers. */
export function fillRandom(out: Tensor, distribution: Distribution, seed: number): void {
  const dtype = floatOnly(distribution === "uniform" ? "Tensor.rand" : "Tensor.randn", out);
  launchRandom(out.device.stream, { out: out.ptr, count: out.size, distribution, seed, dtype });
}
