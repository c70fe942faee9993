import { ArgumentError } from "../../base/errors.ts";
import { normal, uniform } from "../../kernels/random/random.ts";
import type { Tensor } from "../tensor.ts";
import { floatOnly } from "./check.ts";

export type Distribution = "uniform" | "normal";

/** Overwrites a contiguous float tensor with random numbers. */
export function fillRandom(out: Tensor, distribution: Distribution, seed: number): void {
  const name = distribution === "uniform" ? "Tensor.rand" : "Tensor.randn";
  const dtype = floatOnly(name, out);
  if (!Number.isSafeInteger(seed)) throw new ArgumentError(`${name}: seed must be a whole number, got ${seed}`);
  const place = { out: out.ptr, count: out.size, dtype, seed: BigInt(seed), offset: 0n };
  if (distribution === "uniform") uniform(out.device.stream, { ...place, low: 0, high: 1 });
  else normal(out.device.stream, { ...place, mean: 0, std: 1 });
}
