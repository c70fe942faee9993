/** Softmax of one row in float64; NaN where PyTorch gives NaN. */
export function softmax(x: Float64Array, scale = 1): Float64Array {
  let max = Number.NEGATIVE_INFINITY;
  for (const v of x) max = Math.max(max, v * scale);
  let sum = 0;
  for (const v of x) sum += Math.exp(v * scale - max);
  return x.map((v) => Math.exp(v * scale - max) / sum);
}
