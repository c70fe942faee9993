import { promote } from "../../base/dtype.ts";
import { ArgumentError, ShapeError } from "../../base/errors.ts";
import { formatShape } from "../../base/shape.ts";
import { produce } from "../create.ts";
import { resolveDim } from "../layout.ts";
import type { Tensor } from "../tensor.ts";
import { sameDevice } from "./check.ts";
import { copyInto } from "./copy.ts";

export function cat(tensors: readonly Tensor[], dim: number): Tensor {
  const [first, ...others] = tensors;
  if (!first) throw new ArgumentError("cat: needs at least one tensor");
  if (first.rank === 0) throw new ShapeError("cat: tensors of shape [] have no dimension to join along; use stack()");
  const d = resolveDim("cat", dim, first.shape);
  let dtype = first.dtype;
  for (const other of others) {
    sameDevice("cat", first, other);
    const fits = other.rank === first.rank && other.shape.every((size, i) => i === d || size === first.shape[i]);
    if (!fits) {
      throw new ShapeError(
        `cat: shapes ${formatShape(first.shape)} and ${formatShape(other.shape)} may differ in dimension ${d} only`,
      );
    }
    dtype = promote(dtype, other.dtype);
  }
  const total = tensors.reduce((n, tensor) => n + tensor.shape[d]!, 0);
  return produce(first.device, first.shape.with(d, total), dtype, (out) => {
    let start = 0;
    for (const tensor of tensors) {
      using part = out.narrow(d, start, tensor.shape[d]!);
      copyInto(part, tensor);
      start += tensor.shape[d]!;
    }
  });
}

export function stack(tensors: readonly Tensor[], dim: number): Tensor {
  const first = tensors[0];
  for (const other of tensors) {
    if (first && formatShape(first.shape) !== formatShape(other.shape)) {
      throw new ShapeError(`stack: shapes ${formatShape(first.shape)} and ${formatShape(other.shape)} must be equal`);
    }
  }
  const rows = tensors.map((tensor) => tensor.unsqueeze(dim));
  try {
    return cat(rows, dim < 0 && first ? dim + first.rank + 1 : dim);
  } finally {
    for (const row of rows) row.dispose();
  }
}
