import { Attention } from "../nn/attention.ts";
import { type DecoderLayer, PreNormLayer } from "../nn/decoder-layer.ts";
import { GatedMlp } from "../nn/gated-mlp.ts";
import { loadStackedLinear } from "../nn/load-linear.ts";
import type { Weights } from "../nn/weights.ts";
import type { LayerPlan } from "./decoder.ts";
import { attentionConfig, gateActivation, loadNorm } from "./parts.ts";

/**
 * The layer of Phi-3, Phi-3.5 and Phi-4 (arXiv 2404.14219, 2412.08905): Llama's data flow. What is its own is how the
 * checkpoint stores it: queries, keys and values are one tensor, and so are gate and up, as Llama's become on loading.
 */
export function phi3Layer(weights: Weights, plan: LayerPlan): DecoderLayer {
  const { config } = plan;
  const { hiddenSize, intermediateSize, headDim, numAttentionHeads, numKeyValueHeads } = config;
  const linear = (name: string, rows: number, cols: number) => loadStackedLinear(weights, [name], [rows], cols, false);
  const queryRows = numAttentionHeads * headDim;
  const qkv = linear("self_attn.qkv_proj", queryRows + 2 * numKeyValueHeads * headDim, hiddenSize);
  const output = linear("self_attn.o_proj", hiddenSize, queryRows);
  const gateUp = linear("mlp.gate_up_proj", 2 * intermediateSize, hiddenSize);
  const down = linear("mlp.down_proj", hiddenSize, intermediateSize);
  return new PreNormLayer({
    attentionNorm: loadNorm(weights.at("input_layernorm"), config),
    attention: new Attention(qkv, output, plan.rotary, attentionConfig(plan)),
    mlpNorm: loadNorm(weights.at("post_attention_layernorm"), config),
    mlp: new GatedMlp(gateUp, down, gateActivation(config)),
  });
}
