import type { Tensor } from "../tensor/tensor.ts";

/** cap · tanh(x / cap): close to x where |x| is small beside `cap`, and never beyond ±cap. Disposes x. */
export function softcap(x: Tensor, cap: number): Tensor {
  x.mul_(1 / cap);
  const capped = x.tanh().mul_(cap);
  x.dispose();
  return capped;
}
