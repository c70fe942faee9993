/** How far the next-token distributions of one model are from those of another, over many positions. */
export interface Divergence {
  /** Positions that were compared. */
  readonly tokens: number;
  /** Kullback-Leibler divergence KL(A ‖ B) in nats: its mean, its 99th percentile, its largest value. */
  readonly meanKl: number;
  readonly p99Kl: number;
  readonly maxKl: number;
  /** Share of positions where both hold the same token most probable. */
  readonly top1Agreement: number;
}

/** Collects positions; numbers are float64. */
export class DivergenceMeter {
  readonly #kls: number[] = [];
  #agreeing = 0;

  /** Logits of model A and of model B, [T, V] each, of the same tokens. */
  add(a: Float32Array, b: Float32Array, vocab: number): void {
    for (let begin = 0; begin < a.length; begin += vocab) {
      const [rowA, rowB] = [a.subarray(begin, begin + vocab), b.subarray(begin, begin + vocab)];
      this.#kls.push(klDivergence(rowA, rowB));
      if (indexOfLargest(rowA) === indexOfLargest(rowB)) this.#agreeing++;
    }
  }

  result(): Divergence {
    const sorted = Float64Array.from(this.#kls).sort();
    const tokens = sorted.length;
    return {
      tokens,
      meanKl: sorted.reduce((sum, kl) => sum + kl, 0) / tokens,
      // The smallest value that at least 99 % of all do not pass. NaN sorts last, so it cannot hide.
      p99Kl: sorted[Math.ceil(0.99 * tokens) - 1] ?? Number.NaN,
      maxKl: sorted[tokens - 1] ?? Number.NaN,
      top1Agreement: this.#agreeing / tokens,
    };
  }
}

/** Σ p (log p - log q) for p = softmax(a), q = softmax(b); at least 0, since rounding may give a little less. */
export function klDivergence(a: Float32Array, b: Float32Array): number {
  const [logSumA, logSumB] = [logSumExp(a), logSumExp(b)];
  let kl = 0;
  for (let i = 0; i < a.length; i++) {
    const logP = a[i]! - logSumA;
    const p = Math.exp(logP);
    if (p > 0) kl += p * (logP - (b[i]! - logSumB));
  }
  return Math.max(kl, 0);
}

function logSumExp(row: Float32Array): number {
  let largest = Number.NEGATIVE_INFINITY;
  for (const x of row) if (!(x <= largest)) largest = x; // NaN too
  let sum = 0;
  for (const x of row) sum += Math.exp(x - largest);
  return largest + Math.log(sum);
}

function indexOfLargest(row: Float32Array): number {
  let best = 0;
  for (let i = 1; i < row.length; i++) if (row[i]! > row[best]!) best = i;
  return best;
}
