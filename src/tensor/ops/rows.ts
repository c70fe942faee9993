import { UnsupportedError } from "../../base/errors.ts";
import { elementCount, formatShape } from "../../base/shape.ts";
import { resolveDim } from "../layout.ts";
import type { Tensor } from "../tensor.ts";
import { contiguous } from "./copy.ts";

/** What kernels count rows and columns with. */
const maxInt32 = 2 ** 31 - 1;

/** A tensor as a contiguous matrix whose rows run along one dimension. */
export interface Rows extends Disposable {
  readonly matrix: Tensor;
  readonly rows: number;
  readonly cols: number;
  /** The dimension, not negative. */
  readonly dim: number;
}

/** Brings dimension `dim` last, copying only where it must. Rank 0 counts as one row of one element. */
export function rowsAlong(op: string, x: Tensor, dim: number): Rows {
  const d = resolveDim(op, dim, x.shape);
  const cols = x.shape[d] ?? 1;
  const rows = elementCount(x.shape.toSpliced(d, 1));
  if (cols > maxInt32 || rows > maxInt32) {
    throw new UnsupportedError(
      `${op}: ${formatShape(x.shape)} along dimension ${dim} has ${rows} rows of ${cols}; kernels count both up to 2^31 - 1`,
    );
  }
  using moved = moveLast(x, d);
  const matrix = contiguous(moved);
  return { matrix, rows, cols, dim: d, [Symbol.dispose]: () => matrix.dispose() };
}

/** Dimension `d` moved behind all others, as a view. */
export function moveLast(x: Tensor, d: number): Tensor {
  if (x.rank === 0) return x.alias(x);
  const order = x.shape.map((_, i) => i).toSpliced(d, 1);
  return x.permute([...order, d]);
}

/** Undoes `moveLast`: the last dimension goes to place `d`. */
export function moveBack(x: Tensor, d: number): Tensor {
  if (x.rank === 0) return x.alias(x);
  const order = x.shape.map((_, i) => i).slice(0, -1);
  return x.permute(order.toSpliced(d, 0, x.rank - 1));
}
