import { type DecoderLayer, PreNormLayer } from "../nn/decoder-layer.ts";
import type { Weights } from "../nn/weights.ts";
import type { LayerPlan } from "./decoder.ts";
import { loadAttention, loadMlp, loadNorm } from "./parts.ts";

/**
 * The layer of Llama 1 to 3.3: a norm before grouped-query attention with rotary positions, and a norm before a
 * SiLU-gated feed-forward (arXiv 2302.13971, 2307.09288, 2407.21783).
 *
 * Mistral, Qwen2, Qwen2.5, Qwen3 and Gemma 1 have the same data flow with other numbers: a window, biases, normed queries
 * and keys, another activation. Those are data of the config; src/formats/config/families.ts has what each adds to it.
 */
export function llamaLayer(weights: Weights, plan: LayerPlan): DecoderLayer {
  return new PreNormLayer({
    attentionNorm: loadNorm(weights.at("input_layernorm"), plan.config),
    attention: loadAttention(weights.at("self_attn"), plan),
    mlpNorm: loadNorm(weights.at("post_attention_layernorm"), plan.config),
    mlp: loadMlp(weights.at("mlp"), plan.config),
  });
}
