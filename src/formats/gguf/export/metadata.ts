import { UnsupportedError } from "../../../base/errors.ts";
import { type GgmlType, ggmlType } from "../../../base/ggml.ts";
import { finiteNumber, readField } from "../../config/fields.ts";
import type { ModelConfig } from "../../config/model-config.ts";
import { llama3Divisors } from "../rope.ts";
import type { GgufValue } from "../values.ts";
import type { GgufTensorToWrite } from "../write.ts";

/** `general.file_type` by the type of most tensors. Source: llama.cpp's enum of file types. */
const fileTypes: Readonly<Record<string, number>> = {
  ...{ F32: 0, F16: 1, Q4_0: 2, Q4_1: 3, Q8_0: 7, Q5_0: 8, Q5_1: 9, BF16: 32 },
};

const size = (value: number): GgufValue => ({ type: "uint32", value });
const real = (value: number): GgufValue => ({ type: "float32", value: Math.fround(value) });
const text = (value: string): GgufValue => ({ type: "string", value });

/** The metadata of a model by its config. Throws UnsupportedError for a rotary scaling that GGUF has no words for. */
export function modelMetadata(
  config: ModelConfig,
  architecture: string,
  { name, type }: { readonly name: string; readonly type: GgmlType },
): Map<string, GgufValue> {
  const { slidingWindow, attentionSoftcap, logitSoftcap, modelType, rope, slidingRope } = config;
  const fields: Record<string, GgufValue | undefined> = {
    context_length: size(config.maxPositionEmbeddings),
    embedding_length: size(config.hiddenSize),
    block_count: size(config.numHiddenLayers),
    feed_forward_length: size(config.intermediateSize),
    "attention.head_count": size(config.numAttentionHeads),
    "attention.head_count_kv": size(config.numKeyValueHeads),
    "attention.key_length": size(config.headDim),
    "attention.value_length": size(config.headDim),
    "attention.layer_norm_rms_epsilon": real(config.rmsNormEps),
    "attention.sliding_window": slidingWindow === undefined ? undefined : size(slidingWindow),
    "attention.scale": modelType?.startsWith("gemma") ? real(config.attentionScale) : undefined,
    attn_logit_softcapping: attentionSoftcap === undefined ? undefined : real(attentionSoftcap),
    final_logit_softcapping: logitSoftcap === undefined ? undefined : real(logitSoftcap),
    vocab_size: size(config.vocabSize),
    "rope.dimension_count": size(config.rotaryDim),
    "rope.freq_base": real(rope.theta),
    "rope.freq_base_swa": slidingRope.theta === rope.theta ? undefined : real(slidingRope.theta),
    ...ropeScaling(config),
    ...expertFields(config),
  };
  const metadata = new Map<string, GgufValue>([
    ["general.architecture", text(architecture)],
    ["general.name", text(name)],
    ["general.file_type", size(fileTypes[type.name] ?? 0)],
    ["general.quantization_version", size(2)],
  ]);
  for (const [key, value] of Object.entries(fields)) if (value) metadata.set(`${architecture}.${key}`, value);
  return metadata;
}

function ropeScaling({ rope, source }: ModelConfig): Record<string, GgufValue | undefined> {
  switch (rope.type) {
    case "default":
    case "llama3": // a tensor
      return {};
    case "linear":
      return { "rope.scaling.type": text("linear"), "rope.scaling.factor": real(rope.factor) };
    case "yarn":
      return {
        "rope.scaling.type": text("yarn"),
        "rope.scaling.factor": real(rope.factor),
        "rope.scaling.original_context_length": size(rope.originalMaxPositions),
        "rope.scaling.yarn_beta_fast": real(rope.betaFast),
        "rope.scaling.yarn_beta_slow": real(rope.betaSlow),
        ...(rope.attentionFactor !== undefined && {
          // The file's factor multiplies what follows from `factor`.
          "rope.scaling.attn_factor": real(rope.attentionFactor / (0.1 * Math.log(rope.factor) + 1)),
        }),
      };
    case "longrope":
      return {
        "rope.scaling.original_context_length": size(rope.originalMaxPositions),
        ...(rope.attentionFactor !== undefined && { "rope.scaling.attn_factor": real(rope.attentionFactor) }),
      };
    default:
      throw new UnsupportedError(`${source.file}: rotary scaling of type "${rope.type}" cannot be written as GGUF`);
  }
}

/** Tensors that hold what the config says of the rotation. */
export function rotaryTensors({ rope, rotaryDim }: ModelConfig): GgufTensorToWrite[] {
  const factors = (name: string, values: readonly number[]): GgufTensorToWrite => ({
    name: `${name}.weight`,
    type: ggmlType("F32"),
    shape: [values.length],
    data: Float32Array.from(values),
  });
  if (rope.type === "llama3") return [factors("rope_freqs", llama3Divisors(rope, rotaryDim, rope.theta))];
  if (rope.type !== "longrope") return [];
  return [factors("rope_factors_long", rope.longFactor), factors("rope_factors_short", rope.shortFactor)];
}

function expertFields({ source }: ModelConfig): Record<string, GgufValue | undefined> {
  const field = (name: string) => {
    const value = readField(source, name, finiteNumber, undefined);
    return value === undefined ? undefined : size(value);
  };
  return {
    expert_count: field("num_local_experts") ?? field("num_experts"),
    expert_used_count: field("num_experts_per_tok"),
    expert_feed_forward_length: field("moe_intermediate_size"),
  };
}
