import { readMixtralExperts } from "../formats/config/experts.ts";
import { type DecoderLayer, PreNormLayer } from "../nn/decoder-layer.ts";
import { MixtureOfExperts } from "../nn/moe.ts";
import type { Weights } from "../nn/weights.ts";
import type { LayerPlan } from "./decoder.ts";
import { gateActivation, loadAttention, loadNorm } from "./parts.ts";

/**
 * The layer of Mixtral (arXiv 2401.04088): Mistral's, with a mixture of experts in place of the feed-forward. A token goes to
 * the k experts (2 of 8) with the largest router probabilities, which are then divided by their sum.
 *
 * Checkpoints keep an expert's projections as `block_sparse_moe.experts.N.w1` (gate), `w3` (up) and `w2` (down); those
 * that transformers 5 saved as it holds them have `mlp.experts.gate_up_proj` and `down_proj` of all experts at once.
 */
export function mixtralLayer(weights: Weights, plan: LayerPlan): DecoderLayer {
  const { config } = plan;
  const fused = weights.has("mlp.experts.gate_up_proj");
  return new PreNormLayer({
    attentionNorm: loadNorm(weights.at("input_layernorm"), config),
    attention: loadAttention(weights.at("self_attn"), plan),
    mlpNorm: loadNorm(weights.at("post_attention_layernorm"), config),
    mlp: MixtureOfExperts.load(weights.at(fused ? "mlp" : "block_sparse_moe"), {
      ...readMixtralExperts(config.source),
      hiddenSize: config.hiddenSize,
      activation: gateActivation(config),
      names: { gate: "w1", up: "w3", down: "w2" },
    }),
  });
}
