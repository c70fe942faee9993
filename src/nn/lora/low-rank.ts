import { float32 } from "../../base/dtype.ts";
import { ptrAdd } from "../../driver/api.ts";
import { cast } from "../../kernels/copy/copy.ts";
import { matmul } from "../../kernels/matmul/matmul.ts";
import { Tensor } from "../../tensor/tensor.ts";
import { tidy } from "../../tensor/tidy.ts";

/** Rows that are held in float32 at a time. */
const chunkRows = 4096;

/** A product of two float32 matrices, [N, r] · [r, K], each contiguous or the transpose of a contiguous one. */
export interface LowRank {
  readonly left: Tensor;
  readonly right: Tensor;
  readonly scale: number;
}

/**
 * target [N, K] (contiguous, any float dtype) += scale · left · right, added in float32 and rounded once. With `finish`, the
 * float32 sums of some rows, `first` and on, may be changed before they are rounded.
 */
export function addLowRank(
  target: Tensor,
  { left, right, scale }: LowRank,
  finish?: (rows: Tensor, first: number) => void,
): void {
  const { device, dtype } = target;
  const [n, k] = target.shape as [number, number];
  const r = left.shape[1]!;
  const transposeA = !left.isContiguous;
  const transposeB = !right.isContiguous;
  for (let first = 0; first < n; first += chunkRows) {
    const count = Math.min(chunkRows, n - first);
    using sums = Tensor.empty([count, k], { dtype: float32, device });
    const at = ptrAdd(target.ptr, first * k * dtype.bytes);
    cast(device.stream, { out: sums.ptr, outDType: float32, x: at, dtype, count: count * k });
    matmul(device.stream, {
      out: sums.ptr,
      a: ptrAdd(left.ptr, first * (transposeA ? 1 : r) * float32.bytes),
      b: right.ptr,
      m: count,
      n: k,
      k: r,
      dtype: float32,
      transposeA,
      transposeB,
      lda: transposeA ? n : r,
      alpha: scale,
      beta: 1,
      backend: "own",
    });
    finish?.(sums, first);
    cast(device.stream, { out: at, outDType: dtype, x: sums.ptr, dtype: float32, count: count * k });
  }
}

/** target [N] of any float dtype += scale · vector [N] float32, added in float32 and rounded once. */
export function addScaled(target: Tensor, vector: Tensor, scale: number): void {
  tidy(() => target.copy_(target.to(float32).add(vector.mul(scale))));
}
