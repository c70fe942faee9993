import { bool, type DType, float32, int32, int64, uint8 } from "../../base/dtype.ts";
import { ShapeError } from "../../base/errors.ts";
import { elementCount, formatShape } from "../../base/shape.ts";
import { nullPtr } from "../../driver/api.ts";
import * as kernels from "../../kernels/reduce/reduce.ts";
import { allocate } from "../create.ts";
import { resolveDims } from "../layout.ts";
import type { Tensor } from "../tensor.ts";
import { cast } from "./copy.ts";

export type ReduceOp = kernels.ReduceOp;
export type Dims = number | readonly number[];

export function reduce(op: ReduceOp, x: Tensor, dims: Dims | undefined, keepDim: boolean): Tensor {
  const reduced = resolveDims(op, dims, x.shape);
  const shape = keepDim
    ? x.shape.map((n, i) => (reduced.includes(i) ? 1 : n))
    : x.shape.filter((_, i) => !reduced.includes(i));
  if (x.size === 0 && elementCount(shape) > 0 && (op === "max" || op === "min")) {
    throw new ShapeError(
      `${op}: there is no ${op} of no elements; ${formatShape(x.shape)} is empty along [${reduced.join(", ")}]`,
    );
  }
  const { work, accumulated, result } = types(op, x.dtype);
  using from = cast(x, work);
  using out = allocate(x.device, shape, accumulated);
  const workspaceBytes = kernels.reduceWorkspaceBytes({ shape: x.shape, dims: reduced, dtype: work });
  using workspace = x.device.allocate(workspaceBytes, { tag: `${op} workspace` });
  kernels.reduce(x.device.stream, {
    op,
    out: out.ptr,
    outDType: accumulated,
    x: from.ptr,
    dtype: work,
    shape: from.shape,
    strides: from.strides,
    dims: reduced,
    workspace: workspaceBytes === 0 ? nullPtr : workspace.ptr,
  });
  return cast(out, result);
}

/** The dtype that is read, the one that the kernel writes, and the one that the caller gets. */
function types(op: ReduceOp, dtype: DType): { work: DType; accumulated: DType; result: DType } {
  if (dtype.isFloat) return { work: dtype, accumulated: dtype, result: dtype };
  if (op === "mean") return { work: float32, accumulated: float32, result: float32 };
  const work = dtype === uint8 || dtype === bool ? int32 : dtype;
  return op === "sum" ? { work, accumulated: int64, result: int64 } : { work, accumulated: work, result: dtype };
}
