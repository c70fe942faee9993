import { type DType, float32, int64 } from "../../base/dtype.ts";
import { ShapeError } from "../../base/errors.ts";
import { elementCount, formatShape } from "../../base/shape.ts";
import { allocate } from "../create.ts";
import { resolveDims } from "../layout.ts";
import type { Tensor } from "../tensor.ts";
import { contiguous } from "./copy.ts";
import { launchReduce } from "./pending.ts";

export type ReduceOp = "sum" | "mean" | "max" | "min";
export type Dims = number | readonly number[];

export function reduce(op: ReduceOp, x: Tensor, dims: Dims | undefined, keepDim: boolean): Tensor {
  const reduced = resolveDims(op, dims, x.shape);
  const isReduced = new Set(reduced);
  const kept = x.shape.map((_, i) => i).filter((i) => !isReduced.has(i));
  const cols = elementCount(reduced.map((i) => x.shape[i]!));
  const rows = elementCount(kept.map((i) => x.shape[i]!));
  if (cols === 0 && rows > 0 && (op === "max" || op === "min")) {
    throw new ShapeError(
      `${op}: there is no ${op} of no elements; ${formatShape(x.shape)} is empty along [${reduced.join(", ")}]`,
    );
  }
  using moved = x.permute([...kept, ...reduced]);
  using matrix = contiguous(moved);
  const dtype = resultType(op, x.dtype);
  const shape = keepDim ? x.shape.map((n, i) => (isReduced.has(i) ? 1 : n)) : kept.map((i) => x.shape[i]!);
  const out = allocate(x.device, shape, dtype);
  launchReduce(x.device.stream, { op, out: out.ptr, x: matrix.ptr, rows, cols, dtype: x.dtype, outDtype: dtype });
  return out;
}

function resultType(op: ReduceOp, dtype: DType): DType {
  if (dtype.isFloat || op === "max" || op === "min") return dtype;
  return op === "sum" ? int64 : float32;
}
