/** What routing and a layer of experts compute, in float64. */
import { geluTanh, silu } from "./activation.ts";

export interface Routing {
  /** [T, k], best first, the lower index first among equals. */
  readonly ids: Int32Array;
  readonly weights: Float64Array;
}

/** logits [T, E]: softmax, the k best, and their probabilities, divided by their sum where `normalize` is set. */
export function route(logits: ArrayLike<number>, experts: number, chosen: number, normalize: boolean): Routing {
  const tokens = logits.length / experts;
  const ids = new Int32Array(tokens * chosen);
  const weights = new Float64Array(tokens * chosen);
  for (let t = 0; t < tokens; t++) {
    const row = Array.from({ length: experts }, (_, e) => logits[t * experts + e]!);
    const best = row.map((_, e) => e).sort((a, b) => row[b]! - row[a]! || a - b);
    const powers = row.map((value) => Math.exp(value - row[best[0]!]!));
    const counted = normalize ? best.slice(0, chosen) : best;
    const total = counted.reduce((sum, e) => sum + powers[e]!, 0);
    for (let j = 0; j < chosen; j++) {
      ids[t * chosen + j] = best[j]!;
      weights[t * chosen + j] = powers[best[j]!]! / total;
    }
  }
  return { ids, weights };
}

/** Slots sorted by expert, and by number among those of one expert. */
export function sortedSlots(ids: Int32Array): Int32Array {
  return Int32Array.from(ids.keys()).sort((a, b) => ids[a]! - ids[b]! || a - b);
}

export interface ProductShape {
  readonly n: number;
  readonly k: number;
  readonly share: number;
  readonly gate?: "silu" | "gelu";
}

/** Row by row: out[slot] = a[slot / share] · b[ids[slot]]ᵀ, [S, N]; gated as MatmulParams says. */
export function groupedProduct(a: Float64Array, b: Float64Array, ids: Int32Array, s: ProductShape): Float64Array {
  const { n, k, share } = s;
  const width = s.gate ? 2 * n : n;
  const out = new Float64Array(ids.length * n);
  const sums = new Float64Array(width);
  const activate = s.gate === "gelu" ? geluTanh : silu;
  for (let slot = 0; slot < ids.length; slot++) {
    const row = a.subarray(Math.floor(slot / share) * k, (Math.floor(slot / share) + 1) * k);
    for (let column = 0; column < width; column++) {
      const at = (ids[slot]! * width + column) * k;
      let sum = 0;
      for (let i = 0; i < k; i++) sum += row[i]! * b[at + i]!;
      sums[column] = sum;
    }
    for (let i = 0; i < n; i++) {
      out[slot * n + i] = s.gate ? activate(sums[i]!) * sums[n + i]! : sums[i]!;
    }
  }
  return out;
}
