export function silu(x: number): number {
  return x / (1 + Math.exp(-x));
}

/** The tanh approximation of GELU. Source: arXiv 1606.08415. */
export function geluTanh(x: number): number {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}
