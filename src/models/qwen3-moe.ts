import { readQwenExperts } from "../formats/config/experts.ts";
import { type DecoderLayer, PreNormLayer } from "../nn/decoder-layer.ts";
import { MixtureOfExperts } from "../nn/moe.ts";
import type { Weights } from "../nn/weights.ts";
import type { LayerPlan } from "./decoder.ts";
import { gateActivation, loadAttention, loadMlp, loadNorm } from "./parts.ts";

/**
 * The layer of Qwen3-MoE (arXiv 2505.09388): Qwen3's, with many small experts (8 of 128) in place of the feed-forward.
 * `norm_topk_prob` says whether the chosen probabilities are divided by their sum; single layers may keep the feed-forward
 * (`mlp_only_layers`, `decoder_sparse_step`).
 */
export function qwen3MoeLayer(weights: Weights, plan: LayerPlan): DecoderLayer {
  const { config } = plan;
  const mlp = weights.at("mlp");
  const experts = readQwenExperts(config.source, plan.index);
  return new PreNormLayer({
    attentionNorm: loadNorm(weights.at("input_layernorm"), config),
    attention: loadAttention(weights.at("self_attn"), plan),
    mlpNorm: loadNorm(weights.at("post_attention_layernorm"), config),
    mlp: experts
      ? MixtureOfExperts.load(mlp, {
          ...experts,
          hiddenSize: config.hiddenSize,
          activation: gateActivation(config),
          names: { gate: "gate_proj", up: "up_proj", down: "down_proj" },
        })
      : loadMlp(mlp, config),
  });
}
