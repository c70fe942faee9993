import { join } from "node:path";
import { type DType, dtype } from "../../base/dtype.ts";
import { FileError, FormatError, UnsupportedError } from "../../base/errors.ts";
import { listDirectory } from "../directory.ts";
import { describeJson, type JsonObject, readJsonFile } from "../json.ts";
import { type Family, familyName, familyOf, type LayerType } from "./families.ts";
import {
  count,
  type FieldSource,
  fieldError,
  flag,
  layerCount,
  nested,
  positiveNumber,
  readField,
  requireField,
  text,
  texts,
  tokenIds,
} from "./fields.ts";
import { type QuantizationConfig, readQuantization } from "./quantization.ts";
import { type RopeConfigs, readRope } from "./rope.ts";
import { readSlidingLayers } from "./sliding-layers.ts";

/**
 * `config.json` of a decoder, read once and validated: what the file says, and where it is silent what its family assumes
 * (families.ts). Names are those of transformers in camelCase. What a family adds beyond these its model reads with
 * `readField(config.source, …)`.
 */
export interface ModelConfig extends RopeConfigs {
  /** Of the decoder: the file, or its `text_config`; fields on which the file is silent have the family's defaults. */
  readonly source: FieldSource;
  /** Every field as the file has it. */
  readonly raw: JsonObject;
  /** `architectures[0]`, such as `LlamaForCausalLM`; undefined when the config names none. */
  readonly architecture: string | undefined;
  /** Of the decoder: `gemma3_text` in a multimodal `gemma3`, `qwen2` in a `qwen2_5_vl`. */
  readonly modelType: string | undefined;
  /** Whether this is the language part of a checkpoint that holds others (vision, audio) too. */
  readonly isLanguagePart: boolean;
  /** V. */
  readonly vocabSize: number;
  /** C, the width of the residual stream. */
  readonly hiddenSize: number;
  /** F. */
  readonly intermediateSize: number;
  readonly numHiddenLayers: number;
  /** H. */
  readonly numAttentionHeads: number;
  /** G; H is a multiple of it. */
  readonly numKeyValueHeads: number;
  /** D; not always C / H. */
  readonly headDim: number;
  /** Of D, how many dimensions rotate: D times `partial_rotary_factor`. */
  readonly rotaryDim: number;
  readonly maxPositionEmbeddings: number;
  readonly rmsNormEps: number;
  /** Norms multiply by weight + normOffset: 1 in Gemma, else 0. */
  readonly normOffset: number;
  /** Embeddings are multiplied by it, once rounded to the dtype of the model: √C in Gemma, else 1. */
  readonly embeddingScale: number;
  /** Of the feed-forward: `silu`, `gelu_pytorch_tanh`, … */
  readonly hiddenAct: string;
  /** Whether the projections of queries, keys and values have a bias, and that of attention's output. */
  readonly qkvBias: boolean;
  readonly outputBias: boolean;
  readonly mlpBias: boolean;
  /** Whether each head of queries and keys is normed before it is rotated. */
  readonly qkNorm: boolean;
  /** Multiplies attention's scores: 1/√D, or 1/√query_pre_attn_scalar. */
  readonly attentionScale: number;
  /** Scores s become c · tanh(s / c); undefined when they stay as they are. */
  readonly attentionSoftcap: number | undefined;
  /** The same for the logits. */
  readonly logitSoftcap: number | undefined;
  /** Whether the output projection is the embedding. */
  readonly tieWordEmbeddings: boolean;
  /** Of each layer, what it sees. */
  readonly layerTypes: readonly LayerType[];
  /** Tokens that a sliding-window layer sees, its own included; undefined when every layer sees all. */
  readonly slidingWindow: number | undefined;
  /** Whether activations of the family's checkpoints are known to pass float16's largest number. */
  readonly overflowsFloat16: boolean;
  /** What the weights were saved in, when the config says so; the files themselves decide. */
  readonly dtype: DType | undefined;
  readonly bosTokenId: number | undefined;
  /** `eos_token_id`, one or many; empty when there is none. */
  readonly eosTokenIds: readonly number[];
  readonly padTokenId: number | undefined;
  readonly quantization: QuantizationConfig | undefined;
}

/** Reads `config.json` of a model directory. Throws FileError when it is not there, FormatError when it does not hold together. */
export function readModelConfig(directory: string): ModelConfig {
  const entries = listDirectory(directory);
  if (!entries.includes("config.json")) {
    const hint = entries.includes("adapter_config.json") ? "this is a LoRA adapter" : "this is not a model directory";
    throw new FileError(directory, `${directory}: there is no config.json; ${hint}`);
  }
  const file = join(directory, "config.json");
  return parseModelConfig(readJsonFile(file, "the model's config"), file);
}

/** The same from JSON that was read already; `file` is for messages. */
export function parseModelConfig(json: JsonObject, file: string): ModelConfig {
  const { outer, source, family, modelType, isLanguagePart } = findDecoder({ file, prefix: "", json });
  const hiddenSize = requireField(source, "hidden_size", count);
  const numAttentionHeads = requireField(source, "num_attention_heads", count);
  const numKeyValueHeads = readField(source, "num_key_value_heads", count, numAttentionHeads);
  if (numAttentionHeads % numKeyValueHeads !== 0) {
    throw new FormatError(
      file,
      `${file}: num_attention_heads ${numAttentionHeads} is not a multiple of num_key_value_heads ${numKeyValueHeads}`,
    );
  }
  const headDim = readHeadDim(source, hiddenSize, numAttentionHeads);
  const rotaryDim = readRotaryDim(source, headDim);
  const maxPositionEmbeddings = readField(source, "max_position_embeddings", count, 2048);
  const numHiddenLayers = requireField(source, "num_hidden_layers", layerCount);
  const attentionBias = readField(source, "attention_bias", flag, false);
  if (readField(source, "use_bidirectional_attention", flag, false)) {
    throw new UnsupportedError(
      `${file}: use_bidirectional_attention is true: this is an encoder, and llcuda runs models that generate text`,
    );
  }
  return {
    source,
    raw: json,
    architecture: readField(outer, "architectures", texts, [])[0],
    modelType,
    isLanguagePart,
    vocabSize: requireField(source, "vocab_size", count),
    hiddenSize,
    intermediateSize: requireField(source, "intermediate_size", count),
    numHiddenLayers,
    numAttentionHeads,
    numKeyValueHeads,
    headDim,
    rotaryDim,
    maxPositionEmbeddings,
    rmsNormEps: readField(source, "rms_norm_eps", positiveNumber, 1e-6),
    normOffset: family.onePlusNorm ? 1 : 0,
    embeddingScale: family.scaledEmbedding ? Math.sqrt(hiddenSize) : 1,
    hiddenAct: readActivation(source, family),
    qkvBias: family.qkvBias ?? attentionBias,
    outputBias: family.qkvBias ? false : attentionBias,
    mlpBias: readField(source, "mlp_bias", flag, false),
    qkNorm: family.qkNorm ?? false,
    attentionScale: 1 / Math.sqrt(readField(source, "query_pre_attn_scalar", positiveNumber, headDim)),
    attentionSoftcap: readField(source, "attn_logit_softcapping", positiveNumber, undefined),
    logitSoftcap: readField(source, "final_logit_softcapping", positiveNumber, undefined),
    tieWordEmbeddings: readField(source, "tie_word_embeddings", flag, false),
    ...readSlidingLayers(source, family, numHiddenLayers, maxPositionEmbeddings),
    overflowsFloat16: family.overflowsFloat16 ?? false,
    dtype: readDType(outer) ?? readDType(source),
    bosTokenId: asList(readField(source, "bos_token_id", tokenIds, []))[0],
    eosTokenIds: asList(readField(source, "eos_token_id", tokenIds, [])),
    padTokenId: readPadTokenId(source),
    quantization: readQuantization(outer),
    ...readRope(source, { maxPositions: maxPositionEmbeddings, rotaryDim, defaultTheta: 10_000 }),
  };
}

/** What a checkpoint of several modalities says beside its `text_config` and means for that too. */
const sharedFields = ["tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id"] as const;

/** The decoder's fields, completed by its family's defaults: those of the file, or of `text_config` inside it. */
function findDecoder(outer: FieldSource) {
  const inner = nested(outer, "text_config");
  const own = inner ?? outer;
  const modelType = familyName(readField(own, "model_type", text, undefined));
  const family = familyOf(modelType);
  const given = sharedFields.filter((name) => (outer.json[name] ?? null) !== null);
  const shared = Object.fromEntries(given.map((name) => [name, outer.json[name]]));
  const source: FieldSource = { ...own, json: { ...family.defaults, ...own.json, ...shared } };
  // Older configs of Qwen's vision models have the decoder's fields beside `vision_config`.
  const isLanguagePart = inner !== undefined || nested(outer, "vision_config") !== undefined;
  return { outer, source, family, modelType, isLanguagePart };
}

export function asList(ids: number | readonly number[]): readonly number[] {
  return typeof ids === "number" ? [ids] : ids;
}

function readHeadDim(source: FieldSource, hiddenSize: number, heads: number): number {
  const headDim = readField(source, "head_dim", count, undefined);
  if (headDim !== undefined) return headDim;
  if (hiddenSize % heads !== 0) {
    throw new FormatError(
      source.file,
      `${source.file}: hidden_size ${hiddenSize} is not a multiple of num_attention_heads ${heads}, and there is no head_dim`,
    );
  }
  return hiddenSize / heads;
}

function readRotaryDim(source: FieldSource, headDim: number): number {
  const parameters = readField(source, "rope_parameters", { expected: "an object", accepts: isPartial }, undefined);
  const factor = parameters?.partial_rotary_factor ?? readField(source, "partial_rotary_factor", positiveNumber, 1);
  const rotaryDim = Math.floor(headDim * factor);
  if (factor > 1 || rotaryDim < 2 || rotaryDim % 2 !== 0) {
    throw new FormatError(
      source.file,
      `${source.file}: head_dim ${headDim} times partial_rotary_factor ${factor} rotates ${rotaryDim} dimensions; expected an even number of at most head_dim`,
    );
  }
  return rotaryDim;
}

function isPartial(value: unknown): value is { partial_rotary_factor?: number } {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const factor = (value as { partial_rotary_factor?: unknown }).partial_rotary_factor;
  return factor === undefined || positiveNumber.accepts(factor);
}

/** Gemma's configs have it as `hidden_activation`, and an older `hidden_act` beside it that does not count. */
function readActivation(source: FieldSource, family: Family): string {
  const name = readField(source, "hidden_activation", text, undefined) ?? readField(source, "hidden_act", text, "silu");
  return family.geluIsTanh && name === "gelu" ? "gelu_pytorch_tanh" : name;
}

/** `dtype` in transformers 5, `torch_dtype` before. */
function readDType(source: FieldSource): DType | undefined {
  const field = source.json.dtype === undefined || source.json.dtype === null ? "torch_dtype" : "dtype";
  const name = readField(source, field, text, undefined);
  if (name === undefined || name === "auto") return undefined;
  try {
    return dtype(name);
  } catch {
    throw new UnsupportedError(
      `${source.file}: ${field} is ${describeJson(name)}; llcuda loads float32, float16 and bfloat16`,
    );
  }
}

/** Some checkpoints write -1 for "none". */
function readPadTokenId(source: FieldSource): number | undefined {
  const id = source.json.pad_token_id;
  if (id === -1) return undefined;
  const ids = readField(source, "pad_token_id", tokenIds, []);
  if (Array.isArray(ids) && ids.length > 1) throw fieldError(source, "pad_token_id", id, "one token id");
  return asList(ids)[0];
}
