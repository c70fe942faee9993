import type { DType } from "../../src/base/dtype.ts";
import { decodeArray, encodeArray } from "../../src/base/element.ts";
import { ggmlType } from "../../src/base/ggml.ts";
import { readModelConfig } from "../../src/formats/config/model-config.ts";
import { type GgufTensorToWrite, writeGguf } from "../../src/formats/gguf/write.ts";
import { openCheckpoint } from "../../src/formats/safetensors/checkpoint.ts";
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

const names: Readonly<Record<string, string>> = {
  "model.embed_tokens": "token_embd",
  "model.norm": "output_norm",
  lm_head: "output",
  input_layernorm: "attn_norm",
  post_attention_layernorm: "ffn_norm",
  "self_attn.q_proj": "attn_q",
  "self_attn.k_proj": "attn_k",
  "self_attn.v_proj": "attn_v",
  "self_attn.o_proj": "attn_output",
  "mlp.gate_proj": "ffn_gate",
  "mlp.up_proj": "ffn_up",
  "mlp.down_proj": "ffn_down",
};

/** Writes a Llama checkpoint as a GGUF file of 16-bit matrices and float32 norms, as llama.cpp's converter would. */
export function writeLlamaGguf(directory: string, path: string, options: { pre: string; dtype: DType }): void {
  const config = readModelConfig(directory);
  const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, headDim, hiddenSize: width } = config;
  const shape = { heads, kvHeads, headDim, width, layers: config.numHiddenLayers };
  const metadata = modelMetadata("llama", shape, {
    context_length: config.maxPositionEmbeddings,
    feed_forward_length: config.intermediateSize,
    "rope.freq_base": config.rope.theta,
    "attention.layer_norm_rms_epsilon": config.rmsNormEps,
  });
  metadata.set("general.file_type", { type: "uint32", value: options.dtype.name === "bfloat16" ? 32 : 1 });
  for (const [key, value] of tokenizerMetadata(directory, options.pre)) metadata.set(key, value);
  using checkpoint = openCheckpoint(directory);
  const tensors = [...checkpoint.tensors.values()].map((info): GgufTensorToWrite => {
    const [, layer, module] = /^(?:model\.layers\.(\d+)\.)?(.+)\.weight$/.exec(info.name)!;
    const isNorm = info.shape.length === 1;
    const type = ggmlType(isNorm ? "F32" : options.dtype.safetensors);
    const data = () => {
      const stored = info.elementType!;
      const values = decodeArray(stored, stored.view(checkpoint.read(info.name)));
      const encoded = isNorm ? Float32Array.from(values) : encodeArray(options.dtype, values);
      const bytes = new Uint8Array(encoded.buffer, encoded.byteOffset, encoded.byteLength);
      return /[qk]_proj/.test(info.name) ? interleaveRows(bytes, info.shape[0]!, headDim) : bytes;
    };
    const base = names[module!]!;
    return { name: `${layer === undefined ? base : `blk.${layer}.${base}`}.weight`, type, shape: info.shape, data };
  });
  writeGguf(path, metadata, tensors);
}
