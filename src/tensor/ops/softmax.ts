import { softmax as launchSoftmax } from "../../kernels/softmax/softmax.ts";
import { allocate } from "../create.ts";
import type { Tensor } from "../tensor.ts";
import { floatOnly } from "./check.ts";
import { moveBack, rowsAlong } from "./rows.ts";

export function softmax(x: Tensor, dim: number): Tensor {
  const dtype = floatOnly("softmax", x);
  using from = rowsAlong("softmax", x, dim);
  const { matrix, rows, cols } = from;
  using out = allocate(x.device, matrix.shape, dtype);
  launchSoftmax(x.device.stream, { out: out.ptr, x: matrix.ptr, rows, cols, dtype });
  return moveBack(out, from.dim);
}
