import { ArgumentError, ShapeError } from "../../base/errors.ts";
import { rmsNorm as launchRmsNorm } from "../../kernels/rms-norm/rms-norm.ts";
import { produce } from "../create.ts";
import type { Tensor } from "../tensor.ts";
import { describe, floatOnly, sameDevice, sameDType } from "./check.ts";
import { contiguous } from "./copy.ts";

export function rmsNorm(x: Tensor, weight: Tensor, eps: number): Tensor {
  const dtype = floatOnly("rmsNorm", x);
  sameDevice("rmsNorm", x, weight);
  sameDType("rmsNorm", x, weight);
  const cols = x.shape.at(-1);
  if (cols === undefined || weight.rank !== 1 || weight.shape[0] !== cols) {
    throw new ShapeError(
      `rmsNorm: input ${describe(x)} needs a weight [C] for its last dimension C, got ${describe(weight)}`,
    );
  }
  if (!(eps >= 0)) throw new ArgumentError(`rmsNorm: eps must be a number, 0 or more, got ${eps}`);
  using from = contiguous(x);
  using scale = contiguous(weight);
  const rows = cols === 0 ? 0 : x.size / cols;
  return produce(x.device, x.shape, dtype, (out) =>
    launchRmsNorm(x.device.stream, { out: out.ptr, x: from.ptr, weight: scale.ptr, rows, cols, eps, dtype }),
  );
}
