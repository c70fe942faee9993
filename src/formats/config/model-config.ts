import { join } from "node:path";
import { type DType, dtype } from "../../base/dtype.ts";
import { FileError, FormatError, UnsupportedError } from "../../base/errors.ts";
import { listDirectory } from "../directory.ts";
import { describeJson, type JsonObject, readJsonFile } from "../json.ts";
import {
  count,
  type FieldSource,
  fieldError,
  flag,
  nonNegativeInteger,
  positiveNumber,
  readField,
  requireField,
  text,
  texts,
  tokenIds,
} from "./fields.ts";
import { type QuantizationConfig, readQuantization } from "./quantization.ts";
import { type RopeConfigs, readRope } from "./rope.ts";

/**
 * `config.json` of a decoder, read once and validated. Names are those of transformers in camelCase.
 * What a family adds beyond these is in `raw`; its model reads it with `readField(config.source, …)`.
 */
export interface ModelConfig extends RopeConfigs {
  readonly source: FieldSource;
  /** Every field as the file has it. */
  readonly raw: JsonObject;
  /** `architectures[0]`, such as `LlamaForCausalLM`; undefined when the config names none. */
  readonly architecture: string | undefined;
  readonly modelType: string | undefined;
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
  /** Of the feed-forward: `silu`, `gelu_pytorch_tanh`, … */
  readonly hiddenAct: string;
  /** Whether the projections of attention (q, k, v, o) have a bias. */
  readonly attentionBias: boolean;
  readonly mlpBias: boolean;
  /** Whether the output projection is the embedding. */
  readonly tieWordEmbeddings: boolean;
  /** Tokens that a sliding-window layer sees; undefined when every layer sees all. */
  readonly slidingWindow: number | undefined;
  /** What the weights were saved in, when the config says so; the files themselves decide. */
  readonly dtype: DType | undefined;
  readonly bosTokenId: number | undefined;
  /** `eos_token_id`, one or many; empty when there is none. */
  readonly eosTokenIds: readonly number[];
  readonly padTokenId: number | undefined;
  readonly quantization: QuantizationConfig | undefined;
}

/** What a family assumes where its config is silent; the defaults are Llama's. */
export interface ConfigDefaults {
  readonly ropeTheta?: number;
  readonly rmsNormEps?: number;
  readonly hiddenAct?: string;
  readonly tieWordEmbeddings?: boolean;
  readonly attentionBias?: boolean;
  readonly maxPositionEmbeddings?: number;
}

/** Reads `config.json` of a model directory. Throws FileError when it is not there, FormatError when it does not hold together. */
export function readModelConfig(directory: string, defaults: ConfigDefaults = {}): ModelConfig {
  const entries = listDirectory(directory);
  if (!entries.includes("config.json")) {
    const hint = entries.includes("adapter_config.json") ? "this is a LoRA adapter" : "this is not a model directory";
    throw new FileError(directory, `${directory}: there is no config.json; ${hint}`);
  }
  const file = join(directory, "config.json");
  return parseModelConfig(readJsonFile(file, "the model's config"), file, defaults);
}

/** The same from JSON that was read already; `file` is for messages. */
export function parseModelConfig(json: JsonObject, file: string, defaults: ConfigDefaults = {}): ModelConfig {
  const source: FieldSource = { file, prefix: "", json };
  if (json.hidden_size === undefined && json.text_config !== undefined) {
    throw new UnsupportedError(
      `${file}: this is a model of several modalities (text_config inside); load its text model, saved on its own`,
    );
  }
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
  const maxPositionEmbeddings = readField(
    source,
    "max_position_embeddings",
    count,
    defaults.maxPositionEmbeddings ?? 2048,
  );
  return {
    source,
    raw: json,
    architecture: readField(source, "architectures", texts, [])[0],
    modelType: readField(source, "model_type", text, undefined),
    vocabSize: requireField(source, "vocab_size", count),
    hiddenSize,
    intermediateSize: requireField(source, "intermediate_size", count),
    numHiddenLayers: requireField(source, "num_hidden_layers", count),
    numAttentionHeads,
    numKeyValueHeads,
    headDim,
    rotaryDim,
    maxPositionEmbeddings,
    rmsNormEps: readField(source, "rms_norm_eps", positiveNumber, defaults.rmsNormEps ?? 1e-6),
    hiddenAct:
      readField(source, "hidden_act", text, undefined) ??
      readField(source, "hidden_activation", text, defaults.hiddenAct ?? "silu"),
    attentionBias: readField(source, "attention_bias", flag, defaults.attentionBias ?? false),
    mlpBias: readField(source, "mlp_bias", flag, false),
    tieWordEmbeddings: readField(source, "tie_word_embeddings", flag, defaults.tieWordEmbeddings ?? false),
    slidingWindow: readSlidingWindow(source),
    dtype: readDType(source),
    bosTokenId: asList(readField(source, "bos_token_id", tokenIds, []))[0],
    eosTokenIds: asList(readField(source, "eos_token_id", tokenIds, [])),
    padTokenId: readPadTokenId(source),
    quantization: readQuantization(source),
    ...readRope(source, { maxPositions: maxPositionEmbeddings, rotaryDim, defaultTheta: defaults.ropeTheta ?? 10_000 }),
  };
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

/** Qwen configs carry a window that `use_sliding_window: false` switches off. */
function readSlidingWindow(source: FieldSource): number | undefined {
  const window = readField(source, "sliding_window", nonNegativeInteger, undefined);
  return window && readField(source, "use_sliding_window", flag, true) ? window : undefined;
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
