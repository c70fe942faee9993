import { FormatError, UnsupportedError } from "../../base/errors.ts";
import type { JsonObject } from "../json.ts";
import { findGgufArchitecture, type GgufArchitecture } from "./architectures.ts";
import { queryScalar } from "./attention-scale.ts";
import { readHeads } from "./heads.ts";
import type { GgufMetadata } from "./metadata.ts";
import type { GgufParts } from "./parts.ts";
import { readGgufRope } from "./rope.ts";

/**
 * The config.json that a GGUF model stands for, in HuggingFace's names, so that both are read by the same code.
 * Throws UnsupportedError for an architecture that is not known, FormatError for numbers that are missing or wrong.
 */
export function ggufConfig(parts: GgufParts): JsonObject {
  const { metadata } = parts;
  const architecture = findGgufArchitecture(metadata);
  const prefix = metadata.require("text", "general.architecture");
  const size = (name: string) => metadata.find("size", `${prefix}.${name}`);
  const requireSize = (name: string) => metadata.require("size", `${prefix}.${name}`);
  const { heads, kvHeads, headDim } = readHeads(metadata);
  const layers = requireSize("block_count");
  return {
    architectures: [architecture.name],
    model_type: architecture.modelType,
    vocab_size: vocabularySize(parts),
    hidden_size: requireSize("embedding_length"),
    intermediate_size: requireSize("feed_forward_length"),
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: headDim,
    max_position_embeddings: requireSize("context_length"),
    rms_norm_eps: metadata.require("number", `${prefix}.attention.layer_norm_rms_epsilon`),
    hidden_act: architecture.activation,
    tie_word_embeddings: !parts.tensors.has("output.weight"),
    attention_bias: parts.tensors.has("blk.0.attn_q.bias") && parts.tensors.has("blk.0.attn_output.bias"),
    mlp_bias: parts.tensors.has("blk.0.ffn_down.bias"),
    sliding_window: size("attention.sliding_window") || null,
    use_sliding_window: Boolean(size("attention.sliding_window")),
    torch_dtype: computeDType(metadata, architecture),
    bos_token_id: metadata.find("size", "tokenizer.ggml.bos_token_id") ?? null,
    eos_token_id: metadata.find("size", "tokenizer.ggml.eos_token_id") ?? null,
    pad_token_id: metadata.find("size", "tokenizer.ggml.padding_token_id") ?? null,
    ...readGgufRope(parts, prefix, headDim),
    ...(architecture.experts && expertFields(metadata, prefix, architecture)),
    ...gemmaFields(metadata, prefix, architecture, { layers, heads, headDim }),
  };
}

function vocabularySize({ tensors, path }: GgufParts): number {
  const shape = tensors.get("token_embd.weight")?.shape;
  if (shape?.length === 2) return shape[0]!;
  throw new FormatError(path, `${path}: there is no token_embd.weight [V, C]; the file holds no whole model`);
}

/** What the weights were, or are dequantized to: files name the type that most tensors have (general.file_type). */
function computeDType(metadata: GgufMetadata, { needsBfloat16 }: GgufArchitecture): string {
  const fileType = metadata.find("size", "general.file_type");
  if (fileType === 0) return "float32";
  return needsBfloat16 || fileType === 32 ? "bfloat16" : "float16";
}

function expertFields(metadata: GgufMetadata, prefix: string, { modelType }: GgufArchitecture): JsonObject {
  const experts = metadata.require("size", `${prefix}.expert_count`);
  const fields = { num_experts_per_tok: metadata.require("size", `${prefix}.expert_used_count`) };
  if (modelType === "mixtral") return { ...fields, num_local_experts: experts };
  return {
    ...fields,
    num_experts: experts,
    moe_intermediate_size: metadata.require("size", `${prefix}.expert_feed_forward_length`),
    norm_topk_prob: metadata.find("flag", `${prefix}.expert_weights_norm`) ?? true,
    decoder_sparse_step: 1,
    mlp_only_layers: [],
  };
}

interface GemmaShape {
  readonly layers: number;
  readonly heads: number;
  readonly headDim: number;
}

function gemmaFields(
  metadata: GgufMetadata,
  prefix: string,
  { modelType }: GgufArchitecture,
  { layers, heads, headDim }: GemmaShape,
): JsonObject {
  if (modelType !== "gemma2" && modelType !== "gemma3_text") return {};
  const number = (name: string) => metadata.find("number", `${prefix}.${name}`);
  const scale = number("attention.scale");
  const width = metadata.require("size", `${prefix}.embedding_length`);
  const derived = queryScalar(modelType, { layers, heads, headDim, width });
  return {
    query_pre_attn_scalar: scale ? wholeNumber(1 / scale ** 2) : derived,
    attn_logit_softcapping: number("attn_logit_softcapping") ?? (modelType === "gemma2" ? 50 : null),
    final_logit_softcapping: number("final_logit_softcapping") ?? (modelType === "gemma2" ? 30 : null),
    layer_types: layerTypes(metadata, `${prefix}.attention.sliding_window_pattern`, layers, modelType),
  };
}

/** A number that went through a float32, which transformers wants whole. */
function wholeNumber(value: number): number {
  const whole = Math.round(value);
  return Math.abs(value - whole) <= 2 ** -22 * value ? whole : value;
}

/** Which layers slide: written as a flag for each or as a period, else as the family has it. */
function layerTypes(metadata: GgufMetadata, key: string, layers: number, modelType: string): string[] {
  const isArray = metadata.entries.get(key)?.type === "array";
  const flags = isArray ? metadata.require("numbers", key) : undefined;
  if (flags && flags.length !== layers) {
    throw metadata.error(key, `names ${flags.length} layers; expected ${layers}`);
  }
  const period = (isArray ? undefined : metadata.find("size", key)) || (modelType === "gemma2" ? 2 : 6);
  if (layers > 100_000) throw new UnsupportedError(`${metadata.file}: a model of ${layers} layers`);
  return Array.from({ length: layers }, (_, layer) =>
    (flags ? flags[layer] : (layer + 1) % period) ? "sliding_attention" : "full_attention",
  );
}
