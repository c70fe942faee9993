import type { DType } from "../../src/base/dtype.ts";
import { decodeArray, encodeArray } from "../../src/base/element.ts";
import { ggmlType } from "../../src/base/ggml.ts";
import { type ModelConfig, readModelConfig } from "../../src/formats/config/model-config.ts";
import { type GgufTensorToWrite, writeGguf } from "../../src/formats/gguf/write.ts";
import { openCheckpoint } from "../../src/formats/safetensors/checkpoint.ts";
import { ropeFrequencies } from "../../src/nn/rope-frequencies.ts";
import { modelMetadata } from "./gguf-metadata.ts";
import { tokenizerMetadata } from "./gguf-tokenizer.ts";

/** Reorders rows within each head of `headDim` for rotation in adjacent pairs, as llama.cpp's converter does. */
export function interleaveRows(bytes: Uint8Array, rows: number, headDim: number): Uint8Array {
  const rowBytes = bytes.length / rows;
  const stored = new Uint8Array(bytes.length);
  for (let row = 0; row < rows; row++) {
    const at = row % headDim;
    const half = headDim / 2;
    const place = row - at + (at < half ? 2 * at : 2 * (at - half) + 1);
    stored.set(bytes.subarray(row * rowBytes, (row + 1) * rowBytes), place * rowBytes);
  }
  return stored;
}

const architectures: Readonly<Record<string, string>> = {
  llama: "llama",
  mistral: "llama",
  qwen2: "qwen2",
  qwen3: "qwen3",
  gemma2: "gemma2",
  gemma3_text: "gemma3",
  phi3: "phi3",
};

const names: Readonly<Record<string, string>> = {
  "model.embed_tokens": "token_embd",
  "model.norm": "output_norm",
  lm_head: "output",
  input_layernorm: "attn_norm",
  "self_attn.q_proj": "attn_q",
  "self_attn.k_proj": "attn_k",
  "self_attn.v_proj": "attn_v",
  "self_attn.o_proj": "attn_output",
  "self_attn.qkv_proj": "attn_qkv",
  "self_attn.q_norm": "attn_q_norm",
  "self_attn.k_norm": "attn_k_norm",
  post_attention_layernorm: "ffn_norm",
  "mlp.gate_proj": "ffn_gate",
  "mlp.up_proj": "ffn_up",
  "mlp.gate_up_proj": "ffn_up",
  "mlp.down_proj": "ffn_down",
};
const gemmaNames: Readonly<Record<string, string>> = {
  ...names,
  post_attention_layernorm: "post_attention_norm",
  pre_feedforward_layernorm: "ffn_norm",
  post_feedforward_layernorm: "post_ffw_norm",
};

/**
 * Writes a checkpoint as a GGUF file of matrices in `dtype` and float32 norms, as llama.cpp's converter would. With the name of a
 * pre-tokenizer, the tokenizer is embedded.
 */
export function writeModelGguf(directory: string, path: string, options: { dtype: DType; pre?: string }): void {
  const config = readModelConfig(directory);
  const architecture = architectures[config.modelType!]!;
  const metadata = modelMetadata(architecture, shapeOf(config), fieldsOf(config));
  metadata.set("general.file_type", { type: "uint32", value: options.dtype.name === "bfloat16" ? 32 : 1 });
  for (const [key, value] of options.pre ? tokenizerMetadata(directory, options.pre) : []) metadata.set(key, value);
  using checkpoint = openCheckpoint(directory);
  const isGemma = architecture.startsWith("gemma");
  const tensors = [...checkpoint.tensors.values()].map((info): GgufTensorToWrite => {
    const [, layer, module, kind] = /^(?:model\.layers\.(\d+)\.)?(.+)\.(weight|bias)$/.exec(info.name)!;
    const isVector = info.shape.length === 1;
    const type = ggmlType(isVector ? "F32" : options.dtype.safetensors);
    const data = () => {
      const stored = info.elementType!;
      const values = decodeArray(stored, stored.view(checkpoint.read(info.name)));
      const added = isGemma && info.name.endsWith("norm.weight") ? values.map((weight) => weight + 1) : values;
      const encoded = isVector ? Float32Array.from(added) : encodeArray(options.dtype, added);
      const bytes = new Uint8Array(encoded.buffer, encoded.byteOffset, encoded.byteLength);
      const interleaves = architecture === "llama" && /\.[qk]_proj\./.test(info.name);
      return interleaves ? interleaveRows(bytes, info.shape[0]!, config.headDim) : bytes;
    };
    const base = (isGemma ? gemmaNames : names)[module!]!;
    return { name: `${layer === undefined ? base : `blk.${layer}.${base}`}.${kind}`, type, shape: info.shape, data };
  });
  writeGguf(path, metadata, [...tensors, ...rotaryTensors(config)]);
}

function shapeOf(config: ModelConfig) {
  return {
    heads: config.numAttentionHeads,
    kvHeads: config.numKeyValueHeads,
    headDim: config.headDim,
    width: config.hiddenSize,
    layers: config.numHiddenLayers,
  };
}

function fieldsOf(config: ModelConfig): Record<string, number | string> {
  const { rope, slidingRope, slidingWindow, attentionSoftcap, logitSoftcap, modelType } = config;
  return {
    context_length: config.maxPositionEmbeddings,
    feed_forward_length: config.intermediateSize,
    "rope.freq_base": rope.theta,
    "attention.layer_norm_rms_epsilon": config.rmsNormEps,
    ...(slidingWindow !== undefined && { "attention.sliding_window": slidingWindow }),
    ...(attentionSoftcap !== undefined && { attn_logit_softcapping: attentionSoftcap }),
    ...(logitSoftcap !== undefined && { final_logit_softcapping: logitSoftcap }),
    ...(modelType?.startsWith("gemma") && { "attention.scale": config.attentionScale }),
    ...(slidingRope.theta !== rope.theta && { "rope.freq_base_swa": slidingRope.theta }),
    ...(rope.type === "linear" && { "rope.scaling.type": "linear", "rope.scaling.factor": rope.factor }),
  };
}

/** Llama 3's scaling is a tensor: what each frequency is divided by. */
function rotaryTensors({ rope, rotaryDim }: ModelConfig): GgufTensorToWrite[] {
  if (rope.type !== "llama3") return [];
  const { frequencies } = ropeFrequencies(rope, rotaryDim);
  const data = frequencies.map((f, i) => rope.theta ** ((-2 * i) / rotaryDim) / f);
  return [{ name: "rope_freqs.weight", type: ggmlType("F32"), shape: [data.length], data }];
}
