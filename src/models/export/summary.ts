/** What an export wrote. */
export interface ExportSummary {
  /** The folder or file. */
  readonly path: string;
  readonly tensors: number;
  /** Of all weights, metadata not counted. */
  readonly sizeBytes: number;
  /** By type (`bfloat16`, `nf4 (double quantization)`, `Q8_0`), the largest first. */
  readonly types: readonly TypeShare[];
}

export interface TypeShare {
  readonly type: string;
  readonly weights: number;
  readonly sizeBytes: number;
}

export function summarize(
  path: string,
  weights: readonly { readonly type: string; readonly sizeBytes: number }[],
): ExportSummary {
  const types = new Map<string, { type: string; weights: number; sizeBytes: number }>();
  for (const { type, sizeBytes } of weights) {
    const share = types.get(type) ?? { type, weights: 0, sizeBytes: 0 };
    types.set(type, { type, weights: share.weights + 1, sizeBytes: share.sizeBytes + sizeBytes });
  }
  return {
    path,
    tensors: weights.length,
    sizeBytes: weights.reduce((sum, weight) => sum + weight.sizeBytes, 0),
    types: [...types.values()].sort((a, b) => b.sizeBytes - a.sizeBytes),
  };
}
