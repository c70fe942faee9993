import type { StoredWeight } from "../../formats/stored/stored-weights.ts";

/** Modules of a layer that are matrix products with the residual stream or what it becomes; routers are not among them. */
const projection = /(?:^|\.)layers\.\d+\.(?:.+\.)?(?:\w+_proj|w[123])\.weight$/;
/** Towers of other modalities have layers and projections of their own. */
const otherModality = /(?:^|\.)(?:visual|vision_tower|vision_model|audio_tower|multi_modal_projector)\./;

/** Whether a weight is the matrix of a projection in a decoder's layer: what 4-bit types are for. */
export function isProjection({ name, shape }: StoredWeight): boolean {
  return shape.length === 2 && projection.test(name) && !otherModality.test(name);
}

/**
 * The linear modules that stay plain beside quantized ones, for `llm_int8_skip_modules`: matrices in layers or other towers, by
 * their full names. Head and embeddings are not named: bitsandbytes leaves these alone by itself.
 */
export function skippedModules(weights: readonly StoredWeight[], quantized: readonly string[]): string[] {
  const done = new Set(quantized);
  return weights
    .filter(({ name, shape }) => shape.length === 2 && !done.has(name) && name.endsWith(".weight"))
    .map(({ name }) => name.slice(0, -".weight".length))
    .filter((name) => !/(^|\.)(lm_head|embed_tokens)$/.test(name));
}
