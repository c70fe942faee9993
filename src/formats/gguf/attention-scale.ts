/** The layers of the 27B models, whose scores are scaled by C / H; the others' by the head's own size. Files do not say. */
const scaledByWidth: Readonly<Record<string, number>> = { gemma2: 46, gemma3_text: 62 };

export interface AttentionShape {
  readonly layers: number;
  readonly heads: number;
  readonly headDim: number;
  /** C. */
  readonly width: number;
}

/** `query_pre_attn_scalar` of a model, by which llama.cpp divides the square of attention's scores: its family and size decide. */
export function queryScalar(modelType: string, { layers, heads, headDim, width }: AttentionShape): number {
  return layers === scaledByWidth[modelType] ? width / heads : headDim;
}
