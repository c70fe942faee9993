import type { DType } from "../base/dtype.ts";
import { UnsupportedError } from "../base/errors.ts";
import type { Device } from "../driver/device.ts";
import type { ModelConfig } from "../formats/config/model-config.ts";
import { Attention } from "../nn/attention.ts";
import { DecoderLayer } from "../nn/decoder-layer.ts";
import { Embedding } from "../nn/embedding.ts";
import type { ForwardContext } from "../nn/forward-context.ts";
import { GatedMlp } from "../nn/gated-mlp.ts";
import type { KvCacheShape } from "../nn/kv-cache.ts";
import { type GateActivation, Linear } from "../nn/linear.ts";
import { Module } from "../nn/module.ts";
import { RMSNorm } from "../nn/rms-norm.ts";
import { RotaryEmbedding } from "../nn/rotary-embedding.ts";
import type { Weights } from "../nn/weights.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { CausalNetwork } from "./network.ts";

/**
 * Llama 1, 2, 3, 3.1, 3.2 and 3.3: pre-norm blocks of grouped-query attention with rotary positions and a SiLU-gated
 * feed-forward layer (arXiv 2302.13971, 2307.09288, 2407.21783). What differs between them is data: head counts, tied
 * embeddings, biases, the rotary scaling.
 */
export class Llama extends Module implements CausalNetwork {
  readonly embedding: Embedding;
  readonly layers: DecoderLayer[];
  readonly norm: RMSNorm;
  readonly head: Linear;
  readonly rotary: RotaryEmbedding;
  readonly device: Device;
  readonly dtype: DType;
  readonly config: ModelConfig;

  constructor(config: ModelConfig, weights: Weights) {
    super();
    const { hiddenSize, rmsNormEps, vocabSize } = config;
    const model = weights.at("model");
    this.config = config;
    this.device = weights.device;
    this.dtype = weights.dtype;
    this.rotary = new RotaryEmbedding(weights.device, config.rope, config.rotaryDim);
    this.embedding = new Embedding(model.tensor("embed_tokens.weight", [vocabSize, hiddenSize]));
    this.layers = Array.from({ length: config.numHiddenLayers }, (_, i) => this.#layer(model.at(`layers.${i}`), i));
    this.norm = new RMSNorm(model.tensor("norm.weight", [hiddenSize]), rmsNormEps);
    const tied = config.tieWordEmbeddings || !weights.has("lm_head.weight");
    const head = tied ? this.embedding.weight : weights.tensor("lm_head.weight", [vocabSize, hiddenSize]);
    this.head = new Linear(head, undefined, { fixed: true });
  }

  #layer(weights: Weights, layer: number): DecoderLayer {
    const { config } = this;
    const { hiddenSize, rmsNormEps } = config;
    return new DecoderLayer({
      attentionNorm: new RMSNorm(weights.tensor("input_layernorm.weight", [hiddenSize]), rmsNormEps),
      attention: Attention.load(weights.at("self_attn"), this.rotary, {
        hiddenSize,
        layer,
        heads: config.numAttentionHeads,
        kvHeads: config.numKeyValueHeads,
        headDim: config.headDim,
        qkvBias: config.attentionBias,
        outputBias: config.attentionBias,
      }),
      mlpNorm: new RMSNorm(weights.tensor("post_attention_layernorm.weight", [hiddenSize]), rmsNormEps),
      mlp: GatedMlp.load(weights.at("mlp"), {
        hiddenSize,
        intermediateSize: config.intermediateSize,
        bias: config.mlpBias,
        activation: gateActivation(config),
      }),
    });
  }

  get vocabSize(): number {
    return this.config.vocabSize;
  }

  get hiddenSize(): number {
    return this.config.hiddenSize;
  }

  get contextLength(): number {
    return this.config.maxPositionEmbeddings;
  }

  get cacheShape(): KvCacheShape {
    return {
      layers: this.config.numHiddenLayers,
      kvHeads: this.config.numKeyValueHeads,
      headDim: this.config.headDim,
      dtype: this.dtype,
    };
  }

  forward(ids: Tensor, context: ForwardContext): Tensor {
    const x = this.embedding.forward(ids);
    for (const layer of this.layers) layer.forward(x, context);
    const normed = this.norm.forward(x);
    x.dispose();
    return normed;
  }

  logits(hidden: Tensor): Tensor {
    return this.head.forward(hidden);
  }

  override dispose(): void {
    super.dispose();
    this.rotary.dispose();
  }
}

const activations: Readonly<Record<string, GateActivation>> = {
  silu: "silu",
  swish: "silu",
  gelu_pytorch_tanh: "gelu",
  gelu_new: "gelu",
};

function gateActivation(config: ModelConfig): GateActivation {
  const activation = activations[config.hiddenAct];
  if (activation) return activation;
  throw new UnsupportedError(
    `${config.source.file}: hidden_act is "${config.hiddenAct}"; supported are ${Object.keys(activations).join(", ")}`,
  );
}
