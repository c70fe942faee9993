import { UnsupportedError } from "../../../base/errors.ts";
import { type ExpertsConfig, readMixtralExperts, readQwenExperts } from "../../config/experts.ts";
import type { ModelConfig } from "../../config/model-config.ts";
import type { RopeConfig } from "../../config/rope.ts";
import { type GgufArchitecture, ggufArchitectureOf } from "../architectures.ts";
import { llama3Divisors } from "../rope.ts";
import type { GgufValue } from "../values.ts";
import { checkLlamaCppLimits } from "./limits.ts";

/** What stands for a config in a GGUF file: metadata, and scalings of the rotation that are tensors. */
export interface GgufModel {
  readonly architecture: GgufArchitecture;
  readonly metadata: Map<string, GgufValue>;
  /** float32, one number per frequency. */
  readonly rotaryTensors: ReadonlyMap<string, Float32Array>;
}

type Fields = Readonly<Record<string, number | string | boolean | undefined>>;

/**
 * The inverse of `ggufConfig`: a config in the keys that llama.cpp reads. Throws UnsupportedError for what the format has no
 * place for.
 */
export function ggufModel(config: ModelConfig): GgufModel {
  const { file } = config.source;
  const [key, architecture] = ggufArchitectureOf(config.modelType, file);
  checkLlamaCppLimits(config, architecture);
  const { factors, ...rope } = ropeFields(config);
  const fields: Fields = {
    vocab_size: config.vocabSize,
    context_length: config.maxPositionEmbeddings,
    embedding_length: config.hiddenSize,
    block_count: config.numHiddenLayers,
    feed_forward_length: config.intermediateSize,
    "attention.head_count": config.numAttentionHeads,
    "attention.head_count_kv": config.numKeyValueHeads,
    "attention.key_length": config.headDim,
    "attention.value_length": config.headDim,
    "rope.dimension_count": config.rotaryDim,
    ...rope.fields,
    ...expertFields(config, architecture),
    ...attentionFields(config, architecture),
  };
  const metadata = new Map<string, GgufValue>([["general.architecture", { type: "string", value: key }]]);
  for (const [name, value] of Object.entries(fields)) {
    if (value !== undefined) metadata.set(`${key}.${name}`, ggufValue(name, value));
  }
  const pattern = slidingPattern(config, architecture);
  if (pattern) metadata.set(`${key}.attention.sliding_window_pattern`, { type: "array", of: "bool", value: pattern });
  return { architecture, metadata, rotaryTensors: new Map(Object.entries(factors)) };
}

/** Numbers that are no counts, whether they are whole or not. */
const fractions = /rope\.(freq_base|scaling\.(factor|attn_factor|yarn_))|epsilon$|softcapping$/;

function ggufValue(name: string, value: number | string | boolean): GgufValue {
  if (typeof value === "string") return { type: "string", value };
  if (typeof value === "boolean") return { type: "bool", value };
  return { type: fractions.test(name) ? "float32" : "uint32", value };
}

function attentionFields(config: ModelConfig, architecture: GgufArchitecture): Fields {
  const slides = config.slidingWindow !== undefined;
  if (slides && architecture.modelType.startsWith("qwen")) {
    throw new UnsupportedError(
      `${config.source.file}: its layers have a sliding window, which GGUF files of this type cannot say`,
    );
  }
  return {
    "attention.layer_norm_rms_epsilon": config.rmsNormEps,
    "attention.sliding_window": config.slidingWindow,
    attn_logit_softcapping: config.attentionSoftcap,
    final_logit_softcapping: config.logitSoftcap,
  };
}

/** Which layers slide, where that is not what readers assume: every second but the last (Gemma 2), five of six (Gemma 3). */
function slidingPattern(config: ModelConfig, { modelType }: GgufArchitecture): Uint8Array | undefined {
  if (modelType !== "gemma2" && modelType !== "gemma3_text") return undefined;
  const period = modelType === "gemma2" ? 2 : 6;
  const slides = config.layerTypes.map((type) => type === "sliding_attention");
  const isUsual = slides.every((flag, layer) => flag === ((layer + 1) % period !== 0));
  return isUsual ? undefined : Uint8Array.from(slides, Number);
}

function expertFields(config: ModelConfig, { experts, modelType }: GgufArchitecture): Fields {
  if (!experts) return {};
  const { source, numHiddenLayers } = config;
  const read = (layer: number): ExpertsConfig | undefined =>
    modelType === "mixtral" ? readMixtralExperts(source) : readQwenExperts(source, layer);
  const layers = Array.from({ length: numHiddenLayers }, (_, layer) => read(layer));
  const [first] = layers;
  if (first?.normalize === false) {
    throw new UnsupportedError(
      `${source.file}: norm_topk_prob is false, and GGUF files of such models mean true; llama.cpp would not run it as it is`,
    );
  }
  if (!first || layers.includes(undefined)) {
    throw new UnsupportedError(`${source.file}: some layers have no experts, which GGUF files cannot say`);
  }
  return {
    expert_count: first.experts,
    expert_used_count: first.chosen,
    ...(modelType !== "mixtral" && {
      expert_feed_forward_length: first.intermediateSize,
      expert_weights_norm: first.normalize,
    }),
  };
}

interface RopeFields {
  readonly fields: Fields;
  readonly factors: Readonly<Record<string, Float32Array>>;
}

function ropeFields(config: ModelConfig): RopeFields {
  const { rope, slidingRope, modelType, source } = config;
  const { fields = {}, factors = {} } = scalingFields(config);
  if (slidingRope !== rope && slidingRope.type !== "default") {
    throw new UnsupportedError(`${source.file}: the rotation of its sliding layers is scaled, which GGUF cannot say`);
  }
  return {
    fields: {
      "rope.freq_base": rope.theta,
      // Gemma 3's readers take 10000 where there is none.
      "rope.freq_base_swa": modelType === "gemma3_text" ? slidingRope.theta : undefined,
      ...fields,
    },
    factors,
  };
}

function scalingFields({ rope, rotaryDim, source }: ModelConfig): Partial<RopeFields> {
  switch (rope.type) {
    case "default":
      return {};
    case "linear":
      return { fields: { "rope.scaling.type": "linear", "rope.scaling.factor": rope.factor } };
    case "llama3": {
      const divisors = llama3Divisors(rope, rotaryDim, rope.theta);
      return { factors: { "rope_freqs.weight": Float32Array.from(divisors) } };
    }
    case "longrope":
      return {
        fields: {
          "rope.scaling.type": "longrope",
          "rope.scaling.original_context_length": rope.originalMaxPositions,
          "rope.scaling.attn_factor": rope.attentionFactor ?? longRopeFactor(rope),
        },
        factors: {
          "rope_factors_long.weight": Float32Array.from(rope.longFactor),
          "rope_factors_short.weight": Float32Array.from(rope.shortFactor),
        },
      };
    case "yarn":
      if (rope.truncate) return { fields: yarnFields(rope) };
      throw new UnsupportedError(`${source.file}: YaRN without rounded borders (truncate: false) has no place in GGUF`);
    case "dynamic":
      throw new UnsupportedError(`${source.file}: rope_type "dynamic" has no place in GGUF files`);
  }
}

/** What Phi-3's model code multiplies attention by, where the config names nothing. */
function longRopeFactor({ factor, originalMaxPositions }: RopeConfig & { type: "longrope" }): number {
  return factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalMaxPositions));
}

/** The file's attention factor multiplies what follows from `factor`: 0.1 ln(factor) + 1. */
function yarnFields(rope: RopeConfig & { type: "yarn" }): Fields {
  const { factor, mscale, mscaleAllDim } = rope;
  const magnitude = (scale: number) => (factor <= 1 ? 1 : 0.1 * scale * Math.log(factor) + 1);
  const derived = mscale && mscaleAllDim ? magnitude(mscale) / magnitude(mscaleAllDim) : magnitude(1);
  const attention = (rope.attentionFactor ?? derived) / magnitude(1);
  return {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": factor,
    "rope.scaling.original_context_length": rope.originalMaxPositions,
    "rope.scaling.yarn_beta_fast": rope.betaFast,
    "rope.scaling.yarn_beta_slow": rope.betaSlow,
    "rope.scaling.attn_factor": attention === 1 ? undefined : attention,
  };
}
