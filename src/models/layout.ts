import type { Weights } from "../nn/weights.ts";

/** Where checkpoints keep their decoder and its head. */
const layouts = [
  { model: "model", head: "lm_head" },
  // Of several modalities, as transformers writes them since version 4.52 …
  { model: "model.language_model", head: "lm_head" },
  // … and before.
  { model: "language_model.model", head: "language_model.lm_head" },
  // Base models that were saved without a head.
  { model: "", head: "lm_head" },
  { model: "language_model", head: "lm_head" },
] as const;

/** The decoder's weights in whichever place this checkpoint has them, and their prefix. */
export function findDecoder(weights: Weights): {
  readonly model: Weights;
  readonly head: Weights;
  readonly prefix: string;
} {
  const layout = layouts.find(({ model }) => weights.at(model).has("embed_tokens.weight")) ?? layouts[0];
  return { model: weights.at(layout.model), head: weights.at(layout.head), prefix: layout.model };
}
