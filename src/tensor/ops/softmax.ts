import { softmax as launchSoftmax } from "../../kernels/softmax/softmax.ts";
import { allocate } from "../create.ts";
import type { Tensor } from "../tensor.ts";
import { floatOnly } from "./check.ts";
import { moveBack, rowsAlong } from "./rows.ts";

export function softmax(x: Tensor, dim: number): Tensor {
  const dtype = floatOnly("softmax", x);
  using from = rowsAlong("softmax", x, dim);
  const out = allocate(x.device, from.matrix.shape, dtype);
  launchSoftmax(x.device.stream, { out: out.ptr, x: from.matrix.ptr, rows: from.rows, cols: from.cols, dtype });
  if (from.dim >= x.rank - 1) return out;
  using moved = out;
  return moveBack(moved, from.dim);
}
