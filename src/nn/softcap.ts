import { binaryScalar } from "../kernels/elementwise/elementwise.ts";
import type { Tensor } from "../tensor/tensor.ts";

/**
 * x = cap · tanh(x / cap), in place, in float32 and rounded once: close to x where |x| is small beside `cap`, and never
 * beyond ±cap. x is contiguous.
 */
export function softcap(x: Tensor, cap: number): Tensor {
  const { ptr, size, dtype } = x;
  binaryScalar(x.device.stream, { op: "softcap", out: ptr, a: ptr, scalar: cap, count: size, dtype });
  return x;
}
