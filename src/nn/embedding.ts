import type { DType } from "../base/dtype.ts";
import { DTypeError, ShapeError } from "../base/errors.ts";
import { formatShape } from "../base/shape.ts";
import { embedding } from "../kernels/embedding/embedding.ts";
import { QuantizedWeight } from "../tensor/quantized-weight.ts";
import { Tensor } from "../tensor/tensor.ts";
import { Module } from "./module.ts";

/** Rows of a table [V, C] by index, times a number. A quantized table gives rows of `dtype`, which it then needs. */
export class Embedding extends Module {
  weight: Tensor | QuantizedWeight;
  /** Multiplies every row; 1 but for Gemma. */
  readonly scale: number;
  readonly dtype: DType;
  /** As the checkpoint has it: `model.embed_tokens`. */
  readonly name: string | undefined;
  /** Taken in place of the weight during a pass whose adapter has a table of its own. */
  replacement: { readonly table: Tensor } | undefined;

  constructor(weight: Tensor | QuantizedWeight, scale = 1, options: { dtype?: DType; name?: string } = {}) {
    super();
    if (weight.shape.length !== 2) {
      throw new ShapeError(`Embedding: weight must be [V, C], got ${formatShape(weight.shape)}`);
    }
    const own = weight instanceof QuantizedWeight ? options.dtype : weight.dtype;
    if (!own) throw new DTypeError("Embedding: a quantized table needs the dtype of its rows (options.dtype)");
    this.name = options.name;
    this.weight = weight;
    this.scale = scale;
    this.dtype = own;
  }

  /** ids int32 of any shape [...] gives [..., C]. An id outside the table gives a row of NaN. */
  forward(ids: Tensor): Tensor {
    const { scale } = this;
    const weight = this.replacement?.table ?? this.weight;
    if (!(weight instanceof QuantizedWeight)) return gatherRows(weight, ids, scale);
    checkIds(ids);
    return weight.rows(ids, this.dtype, scale);
  }
}

function checkIds(ids: Tensor): void {
  if (ids.dtype.name !== "int32") throw new DTypeError(`Embedding: ids must be int32, got ${ids.dtype.name}`);
}

/** table [N, C], ids int32 [...]: the rows times `scale`, [..., C]. */
export function gatherRows(table: Tensor, ids: Tensor, scale = 1): Tensor {
  checkIds(ids);
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
