/** PyTorch's order of values: larger first, NaN before everything, -0 equal to 0; equals by index. */
function before(x: Float64Array, a: number, b: number): number {
  const u = x[a]!;
  const v = x[b]!;
  if (Number.isNaN(u) || Number.isNaN(v)) return Number(Number.isNaN(v)) - Number(Number.isNaN(u)) || a - b;
  return u === v ? a - b : v > u ? 1 : -1;
}

/** Indices of the k largest, largest first. */
export function topk(x: Float64Array, k: number): number[] {
  return Array.from(x.keys())
    .sort((a, b) => before(x, a, b))
    .slice(0, k);
}

export function argmax(x: Float64Array): number {
  let best = 0;
  for (let i = 1; i < x.length; i++) if (before(x, i, best) < 0) best = i;
  return best;
}
