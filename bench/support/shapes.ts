import { ArgumentError } from "../../src/base/errors.ts";
import { type ModelConfig, parseModelConfig } from "../../src/formats/config/model-config.ts";

/** The numbers of a checkpoint by the letters of the project's shape alphabet, then what else its config.json says. */
interface Shape {
  readonly type: string;
  readonly layers: number;
  readonly c: number;
  readonly f: number;
  readonly h: number;
  readonly g: number;
  readonly d: number;
  readonly v: number;
  readonly context: number;
  readonly others?: Readonly<Record<string, number | boolean | null | readonly number[]>>;
}

const llama = { type: "llama", others: { rope_theta: 500_000, rms_norm_eps: 1e-5 } };
const tiedLlama = { ...llama, others: { ...llama.others, tie_word_embeddings: true } };

/** What the config.json of well-known checkpoints says of their size. A window that spans the whole context is none. */
const shapes: Readonly<Record<string, Shape>> = {
  "llama-2-7b": { type: "llama", layers: 32, c: 4096, f: 11008, h: 32, g: 32, d: 128, v: 32000, context: 4096 },
  "llama-3.1-8b": { ...llama, layers: 32, c: 4096, f: 14336, h: 32, g: 8, d: 128, v: 128256, context: 131072 },
  "llama-3.2-1b": { ...tiedLlama, layers: 16, c: 2048, f: 8192, h: 32, g: 8, d: 64, v: 128256, context: 131072 },
  "llama-3.2-3b": { ...tiedLlama, layers: 28, c: 3072, f: 8192, h: 24, g: 8, d: 128, v: 128256, context: 131072 },
  "mistral-7b": {
    type: "mistral",
    layers: 32,
    c: 4096,
    f: 14336,
    h: 32,
    g: 8,
    d: 128,
    v: 32768,
    context: 32768,
    others: { rope_theta: 1e6, rms_norm_eps: 1e-5, sliding_window: null },
  },
  "qwen2.5-7b": {
    type: "qwen2",
    layers: 28,
    c: 3584,
    f: 18944,
    h: 28,
    g: 4,
    d: 128,
    v: 152064,
    context: 32768,
    others: { rope_theta: 1e6, rms_norm_eps: 1e-6 },
  },
  "qwen3-8b": {
    type: "qwen3",
    layers: 36,
    c: 4096,
    f: 12288,
    h: 32,
    g: 8,
    d: 128,
    v: 151936,
    context: 40960,
    others: { rope_theta: 1e6, rms_norm_eps: 1e-6 },
  },
  "gemma-2-9b": {
    type: "gemma2",
    layers: 42,
    c: 3584,
    f: 14336,
    h: 16,
    g: 8,
    d: 256,
    v: 256000,
    context: 8192,
    others: { query_pre_attn_scalar: 256, sliding_window: 4096 },
  },
  "gemma-3-12b": {
    type: "gemma3_text",
    layers: 48,
    c: 3840,
    f: 15360,
    h: 16,
    g: 8,
    d: 256,
    v: 262208,
    context: 131072,
    others: { query_pre_attn_scalar: 256, sliding_window: 1024 },
  },
  "phi-4": {
    type: "phi3",
    layers: 40,
    c: 5120,
    f: 17920,
    h: 40,
    g: 10,
    d: 128,
    v: 100352,
    context: 16384,
    others: { rope_theta: 250_000, rms_norm_eps: 1e-5 },
  },
  "mixtral-8x7b": {
    type: "mixtral",
    layers: 32,
    c: 4096,
    f: 14336,
    h: 32,
    g: 8,
    d: 128,
    v: 32000,
    context: 32768,
    others: { rope_theta: 1e6, rms_norm_eps: 1e-5, num_local_experts: 8, num_experts_per_tok: 2 },
  },
  "qwen3-30b-a3b": {
    type: "qwen3_moe",
    layers: 48,
    c: 2048,
    f: 6144,
    h: 32,
    g: 4,
    d: 128,
    v: 151936,
    context: 40960,
    others: {
      rope_theta: 1e6,
      rms_norm_eps: 1e-6,
      num_experts: 128,
      num_experts_per_tok: 8,
      moe_intermediate_size: 768,
      norm_topk_prob: true,
      decoder_sparse_step: 1,
      mlp_only_layers: [],
    },
  },
};

export const shapeNames: readonly string[] = Object.keys(shapes);

/** Throws ArgumentError that lists the known shapes. */
export function shapeConfig(name: string): ModelConfig {
  const shape = shapes[name];
  if (!shape) throw new ArgumentError(`--shape: "${name}" is not known; use one of ${shapeNames.join(", ")}`);
  const json = {
    model_type: shape.type,
    num_hidden_layers: shape.layers,
    hidden_size: shape.c,
    intermediate_size: shape.f,
    num_attention_heads: shape.h,
    num_key_value_heads: shape.g,
    head_dim: shape.d,
    vocab_size: shape.v,
    max_position_embeddings: shape.context,
    ...shape.others,
  };
  return parseModelConfig(json, `the shape ${name}`);
}
