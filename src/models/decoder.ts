import type { DType } from "../base/dtype.ts";
import { roundTo } from "../base/element.ts";
import type { Device } from "../driver/device.ts";
import type { ModelConfig } from "../formats/config/model-config.ts";
import type { DecoderLayer } from "../nn/decoder-layer.ts";
import { Embedding } from "../nn/embedding.ts";
import type { ForwardContext } from "../nn/forward-context.ts";
import type { KvCacheShape } from "../nn/kv-cache.ts";
import { projectionOf } from "../nn/load-linear.ts";
import { Module } from "../nn/module.ts";
import type { Projection } from "../nn/projection.ts";
import type { RMSNorm } from "../nn/rms-norm.ts";
import { RotaryEmbedding } from "../nn/rotary-embedding.ts";
import { softcap } from "../nn/softcap.ts";
import { join, type Weights } from "../nn/weights.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { findDecoder } from "./layout.ts";
import type { CausalNetwork } from "./network.ts";
import { cacheShapeOf, loadNorm } from "./parts.ts";

/** What a layer is built from, beside its weights. */
export interface LayerPlan {
  readonly config: ModelConfig;
  /** Its number, from 0. */
  readonly index: number;
  readonly rotary: RotaryEmbedding;
}

/** Builds one layer of an architecture; `weights` are those below `layers.<index>`. */
export type BuildLayer = (weights: Weights, plan: LayerPlan) => DecoderLayer;

/**
 * The frame that all architectures share: embedding, layers, a last norm, and the head that gives logits. An architecture
 * is what it puts into a layer.
 */
export class Decoder extends Module implements CausalNetwork {
  readonly embedding: Embedding;
  readonly layers: DecoderLayer[];
  readonly norm: RMSNorm;
  readonly head: Projection;
  /** Of layers that see the whole context, and of those with a window: the same, but where a family has two bases. */
  readonly rotary: RotaryEmbedding;
  readonly slidingRotary: RotaryEmbedding;
  readonly device: Device;
  readonly dtype: DType;
  readonly config: ModelConfig;

  constructor(config: ModelConfig, weights: Weights, buildLayer: BuildLayer) {
    super();
    const { hiddenSize, vocabSize, rope, slidingRope } = config;
    const { model, head } = findDecoder(weights);
    this.config = config;
    this.device = weights.device;
    this.dtype = weights.dtype;
    this.rotary = new RotaryEmbedding(weights.device, rope, config.rotaryDim);
    this.slidingRotary =
      slidingRope === rope ? this.rotary : new RotaryEmbedding(weights.device, slidingRope, config.rotaryDim);
    const scale = roundTo(this.dtype, config.embeddingScale);
    const shape = [vocabSize, hiddenSize] as const;
    const [table] = model.matrices([{ name: "embed_tokens.weight", shape }], "keep");
    this.embedding = new Embedding(table!, scale, { dtype: this.dtype, name: join(model.prefix, "embed_tokens") });
    this.layers = config.layerTypes.map((type, index) => {
      const rotary = type === "sliding_attention" ? this.slidingRotary : this.rotary;
      return buildLayer(model.at(`layers.${index}`), { config, index, rotary });
    });
    this.norm = loadNorm(model.at("norm"), config);
    const tied = config.tieWordEmbeddings || !head.has("weight");
    const [output] = tied ? [this.embedding.weight] : head.matrices([{ name: "weight", shape }], "keep");
    this.head = projectionOf(output!);
    this.head.stacks = [{ name: head.prefix, rows: vocabSize }];
  }

  get vocabSize(): number {
    return this.config.vocabSize;
  }

  get hiddenSize(): number {
    return this.config.hiddenSize;
  }

  get contextLength(): number {
    const { rope, maxPositionEmbeddings } = this.config;
    // "dynamic" scales from the context that the model was trained with, which max_position_embeddings is, to `factor` times that.
    return rope.type === "dynamic" ? Math.floor(rope.factor * maxPositionEmbeddings) : maxPositionEmbeddings;
  }

  get keysHoldUpTo(): number | undefined {
    return this.rotary.keysHoldUpTo;
  }

  get cacheShape(): KvCacheShape {
    return cacheShapeOf(this.config, this.dtype);
  }

  forward(ids: Tensor, context: ForwardContext): Tensor {
    const x = this.embedding.forward(ids);
    // No kernel overlaps the one that looks rows up with what was queued before it (embedding.cu).
    const settled = { ...context, settled: true };
    for (const layer of this.layers) layer.forward(x, settled);
    const normed = this.norm.forward(x);
    x.dispose();
    return normed;
  }

  logits(hidden: Tensor): Tensor {
    const logits = this.head.forward(hidden);
    const { logitSoftcap } = this.config;
    return logitSoftcap === undefined ? logits : softcap(logits, logitSoftcap);
  }

  override dispose(): void {
    super.dispose();
    this.rotary.dispose();
    if (this.slidingRotary !== this.rotary) this.slidingRotary.dispose();
  }
}
