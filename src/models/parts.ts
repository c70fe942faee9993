import type { DType } from "../base/dtype.ts";
import { UnsupportedError } from "../base/errors.ts";
import type { ModelConfig } from "../formats/config/model-config.ts";
import { Attention, type AttentionConfig } from "../nn/attention.ts";
import { GatedMlp } from "../nn/gated-mlp.ts";
import type { KvCacheShape } from "../nn/kv-cache.ts";
import type { GateActivation } from "../nn/linear.ts";
import { RMSNorm } from "../nn/rms-norm.ts";
import type { Weights } from "../nn/weights.ts";
import type { LayerPlan } from "./decoder.ts";

// The parts that most architectures are made of, as their config describes them and with the checkpoint's usual names.

/** From `weight` below `weights`. */
export function loadNorm(weights: Weights, config: ModelConfig): RMSNorm {
  const norm = new RMSNorm(weights.tensor("weight", [config.hiddenSize]), config.rmsNormEps, config.normOffset);
  norm.name = weights.prefix;
  return norm;
}

/** From `q_proj`, `k_proj`, `v_proj` and `o_proj` below `weights`, and `q_norm` and `k_norm` where the family has them. */
export function loadAttention(weights: Weights, plan: LayerPlan): Attention {
  const { hiddenSize, qkvBias, outputBias, qkNorm, rmsNormEps: eps, normOffset: weightOffset } = plan.config;
  const headNorm = qkNorm ? { eps, weightOffset } : undefined;
  return Attention.load(weights, plan.rotary, { ...attentionConfig(plan), hiddenSize, qkvBias, outputBias, headNorm });
}

export function attentionConfig({ config, index }: LayerPlan): AttentionConfig {
  return {
    layer: index,
    heads: config.numAttentionHeads,
    kvHeads: config.numKeyValueHeads,
    headDim: config.headDim,
    scale: config.attentionScale,
    softcap: config.attentionSoftcap,
    window: layerWindow(config, index),
  };
}

/** What the cache of keys and values of a model holds. */
export function cacheShapeOf(config: ModelConfig, dtype: DType): KvCacheShape {
  return {
    layers: config.numHiddenLayers,
    kvHeads: config.numKeyValueHeads,
    headDim: config.headDim,
    dtype,
    windows: config.layerTypes.map((_, layer) => layerWindow(config, layer) ?? 0),
  };
}

/** How many tokens a layer sees; undefined for all. */
function layerWindow(config: ModelConfig, layer: number): number | undefined {
  return config.layerTypes[layer] === "sliding_attention" ? config.slidingWindow : undefined;
}

/** From `gate_proj`, `up_proj` and `down_proj` below `weights`. */
export function loadMlp(weights: Weights, config: ModelConfig): GatedMlp {
  const { hiddenSize, intermediateSize, mlpBias: bias } = config;
  return GatedMlp.load(weights, { hiddenSize, intermediateSize, bias, activation: gateActivation(config) });
}

const activations: Readonly<Record<string, GateActivation>> = {
  silu: "silu",
  swish: "silu",
  gelu_pytorch_tanh: "gelu",
  gelu_new: "gelu",
};

/** Throws UnsupportedError that lists the known ones. */
export function gateActivation(config: ModelConfig): GateActivation {
  if (Object.hasOwn(activations, config.hiddenAct)) return activations[config.hiddenAct]!;
  throw new UnsupportedError(
    `${config.source.file}: the activation "${config.hiddenAct}" (hidden_act) is not supported; supported are ${Object.keys(activations).join(", ")}`,
  );
}
