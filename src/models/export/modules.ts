import { ArgumentError } from "../../base/errors.ts";
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
 * Which of the projections stay in 16 bits by the user's choice. A pattern names a module and all below it: its whole name or some
 * parts of it that follow each other (`experts`, `mlp.down_proj`, `layers.0`), with `*` for any one part (`layers.*.self_attn`).
 * Throws ArgumentError for a pattern that matches none.
 */
export function keptProjections(weights: readonly StoredWeight[], patterns: readonly string[]): ReadonlySet<string> {
  const names = weights.filter(isProjection).map(({ name }) => name);
  const kept = new Set<string>();
  for (const pattern of patterns) {
    const found = names.filter((name) => matchesParts(name.split("."), pattern.split(".")));
    if (found.length === 0) {
      throw new ArgumentError(
        `keep: no module that would be quantized matches "${pattern}"; they are named as ${names[0] ?? "in no layer"}`,
      );
    }
    for (const name of found) kept.add(name);
  }
  return kept;
}

function matchesParts(name: readonly string[], wanted: readonly string[]): boolean {
  const at = (begin: number) => wanted.every((part, i) => part === "*" || part === name[begin + i]);
  return name.some((_, begin) => begin + wanted.length <= name.length && at(begin));
}

/**
 * The linear modules that stay plain beside quantized ones, for `llm_int8_skip_modules`: matrices in layers or other towers, by
 * their full names; of a mixture of which all experts do, the module that holds them. Head and embeddings are not named:
 * bitsandbytes leaves these alone by itself.
 */
export function skippedModules(weights: readonly StoredWeight[], quantized: readonly string[]): string[] {
  const done = new Set(quantized);
  const mixed = new Set(quantized.map(expertsOf));
  const names = weights
    .filter(({ name, shape }) => shape.length === 2 && !done.has(name) && name.endsWith(".weight"))
    .map(({ name }) => name.slice(0, -".weight".length))
    .filter((name) => !/(^|\.)(lm_head|embed_tokens)$/.test(name));
  return [...new Set(names.map((name) => (mixed.has(expertsOf(name)) ? name : (expertsOf(name) ?? name))))];
}

/** `model.layers.0.mlp.experts` of a module of one of its experts. */
function expertsOf(name: string): string | undefined {
  return /^(.+\.experts)\.\d+\./.exec(name)?.[1];
}
