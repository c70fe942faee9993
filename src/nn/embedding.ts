import { DTypeError, ShapeError } from "../base/errors.ts";
import { formatShape } from "../base/shape.ts";
import { embedding } from "../kernels/embedding/embedding.ts";
import { Tensor } from "../tensor/tensor.ts";
import { Module } from "./module.ts";

/** Rows of a table [V, C] by index, times a number. */
export class Embedding extends Module {
  weight: Tensor;
  /** Multiplies every row; 1 but for Gemma. */
  readonly scale: number;

  constructor(weight: Tensor, scale = 1) {
    super();
    if (weight.rank !== 2) throw new ShapeError(`Embedding: weight must be [V, C], got ${formatShape(weight.shape)}`);
    this.weight = weight;
    this.scale = scale;
  }

  /** ids int32 of any shape [...] gives [..., C]. An id outside the table gives a row of NaN. */
  forward(ids: Tensor): Tensor {
    return gatherRows(this.weight, ids, this.scale);
  }
}

/** table [N, C], ids int32 [...]: the rows times `scale`, [..., C]. */
export function gatherRows(table: Tensor, ids: Tensor, scale = 1): Tensor {
  if (ids.dtype.name !== "int32") throw new DTypeError(`Embedding: ids must be int32, got ${ids.dtype.name}`);
  const [rows, cols] = table.shape as [number, number];
  const out = Tensor.empty([...ids.shape, cols], { dtype: table.dtype, device: table.device });
  embedding(table.device.stream, {
    out: out.ptr,
    table: table.ptr,
    ids: ids.ptr,
    tokens: ids.size,
    vocab: rows,
    cols,
    scale,
    dtype: table.dtype,
  });
  return out;
}
