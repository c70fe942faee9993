import { float32, int32 } from "../base/dtype.ts";
import { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";

/** Float32 logits that one step keeps at a time, twice: 64 MiB, 130 rows of a vocabulary of 128k. */
const stepElements = 1 << 24;

/** Rows of logits to take at a time. */
export function stepRows(vocab: number): number {
  return Math.max(1, Math.floor(stepElements / vocab));
}

/**
 * log softmax(logits)[target] of each row, in natural logarithms: logits [R, V] of any float dtype and R token ids give [R] float32.
 * Computed in float32 from the distance to the row's largest logit, so that nothing overflows.
 */
export function logLikelihood(logits: Tensor, targets: readonly number[]): Tensor {
  const [rows, vocab] = logits.shape as [number, number];
  const { device } = logits;
  return tidy(() => {
    const wide = logits.to(float32);
    const below = wide.sub(wide.max(-1, true));
    const index = Int32Array.from(targets, (id, row) => row * vocab + id);
    const chosen = below.reshape([rows * vocab, 1]).embedding(Tensor.from(index, { dtype: int32, device }));
    return chosen.reshape([rows]).sub(below.exp_().sum(-1).log());
  });
}
