/** RMSNorm of one vector in float64. Source: arXiv 1910.07467. */
export function rmsNorm(h: Float64Array, weight: Float64Array, eps: number, weightOffset = 0): Float64Array {
  let squares = 0;
  for (const x of h) squares += x * x;
  const scale = 1 / Math.sqrt(squares / h.length + eps);
  return h.map((x, c) => x * scale * (weight[c]! + weightOffset));
}
