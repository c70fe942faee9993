import { type DecoderLayer, SandwichLayer } from "../nn/decoder-layer.ts";
import type { Weights } from "../nn/weights.ts";
import type { LayerPlan } from "./decoder.ts";
import { loadAttention, loadMlp, loadNorm } from "./parts.ts";

/**
 * The layer of Gemma 2 and Gemma 3 (arXiv 2408.00118, 2503.19786): Llama's, with two more norms, which stand after attention
 * and after the feed-forward, before each is added to the residual stream. `post_attention_layernorm`, which in Llama is
 * the norm before the feed-forward, is one of these; the name of that is `pre_feedforward_layernorm`.
 *
 * The rest is data, in src/formats/config/families.ts. Both: layers with a window, norms of 1 + weight, a scaled embedding,
 * gelu. Gemma 2: softcaps on scores and logits. Gemma 3: normed queries and keys, two rotary bases.
 */
export function gemma2Layer(weights: Weights, plan: LayerPlan): DecoderLayer {
  return new SandwichLayer({
    attentionNorm: loadNorm(weights.at("input_layernorm"), plan.config),
    attention: loadAttention(weights.at("self_attn"), plan),
    postAttentionNorm: loadNorm(weights.at("post_attention_layernorm"), plan.config),
    mlpNorm: loadNorm(weights.at("pre_feedforward_layernorm"), plan.config),
    mlp: loadMlp(weights.at("mlp"), plan.config),
    postMlpNorm: loadNorm(weights.at("post_feedforward_layernorm"), plan.config),
  });
}
