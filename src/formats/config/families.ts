import type { JsonObject } from "../json.ts";

/** What sees the whole context, and what sees the last `slidingWindow` tokens. */
export type LayerType = "full_attention" | "sliding_attention";

/** The numbers of a config that say which layers slide. */
export interface SlidingPattern {
  /** Layers from this one on slide (Qwen). */
  readonly maxWindowLayers: number;
  /** Each layer slides but every n-th (Gemma 3). */
  readonly period: number;
}

/**
 * What a family of models has of its own, as data. Anything that needs other data flow is a file in src/models.
 * The names are the `model_type` of config.json.
 */
export interface Family {
  /**
   * What the family assumes where config.json is silent, in config.json's own names. A null in the file is not
   * silence: `"sliding_window": null` switches the window off.
   */
  readonly defaults?: JsonObject;
  /** Which layers slide when the config has a window. Without it none does, whatever the config says. */
  readonly slides?: (layer: number, pattern: SlidingPattern) => boolean;
  /** Whether `layer_types` of the config decides instead of `slides`, where it is given. */
  readonly namesLayerTypes?: boolean;
  /** Queries, keys and values have a bias and the output projection has none. Otherwise `attention_bias` speaks for all four. */
  readonly qkvBias?: boolean;
  /** Each head of queries and keys is normed before it is rotated. */
  readonly qkNorm?: boolean;
  /** Norms multiply by 1 + weight. */
  readonly onePlusNorm?: boolean;
  /** Embeddings are multiplied by √C, rounded to the dtype of the model. */
  readonly scaledEmbedding?: boolean;
  /** `"gelu"` in a config means its tanh form. */
  readonly geluIsTanh?: boolean;
  /** Activations of real checkpoints pass 65504, the largest number of float16. */
  readonly overflowsFloat16?: boolean;
}

const every = () => true;
const fromMaxWindowLayers = (layer: number, { maxWindowLayers }: SlidingPattern) => layer >= maxWindowLayers;
const allButEachLastOf = (layer: number, { period }: SlidingPattern) => (layer + 1) % period !== 0;

const qwen: Family = {
  slides: fromMaxWindowLayers,
  namesLayerTypes: true,
  defaults: {
    max_position_embeddings: 32_768,
    use_sliding_window: false,
    sliding_window: 4096,
    max_window_layers: 28,
  },
};

const gemma: Family = {
  onePlusNorm: true,
  scaledEmbedding: true,
  geluIsTanh: true,
  defaults: {
    vocab_size: 256_000,
    head_dim: 256,
    hidden_act: "gelu_pytorch_tanh",
    max_position_embeddings: 8192,
    tie_word_embeddings: true,
    bos_token_id: 2,
    eos_token_id: 1,
    pad_token_id: 0,
  },
};

const gemma2: Family = {
  ...gemma,
  slides: (layer) => layer % 2 === 0,
  namesLayerTypes: true,
  defaults: {
    ...gemma.defaults,
    num_attention_heads: 8,
    num_key_value_heads: 4,
    query_pre_attn_scalar: 256,
    sliding_window: 4096,
    attn_logit_softcapping: 50,
    final_logit_softcapping: 30,
  },
};

const gemma3: Family = {
  ...gemma2,
  slides: allButEachLastOf,
  qkNorm: true,
  overflowsFloat16: true,
  defaults: {
    ...gemma2.defaults,
    vocab_size: 262_208,
    max_position_embeddings: 131_072,
    attn_logit_softcapping: null,
    final_logit_softcapping: null,
    rope_theta: 1e6,
    rope_local_base_freq: 1e4,
    sliding_window_pattern: 6,
  },
};

export const families: Readonly<Record<string, Family>> = {
  llama: {},
  mistral: {
    slides: every,
    defaults: { max_position_embeddings: 131_072, num_key_value_heads: 8, sliding_window: 4096 },
  },
  mixtral: {
    slides: every,
    defaults: {
      max_position_embeddings: 131_072,
      num_key_value_heads: 8,
      rms_norm_eps: 1e-5,
      rope_theta: 1e6,
      num_experts_per_tok: 2,
    },
  },
  qwen2: { ...qwen, qkvBias: true },
  qwen3: { ...qwen, qkNorm: true, defaults: { ...qwen.defaults, head_dim: 128 } },
  qwen3_moe: {
    slides: every,
    qkNorm: true,
    defaults: {
      max_position_embeddings: 32_768,
      num_key_value_heads: 4,
      use_sliding_window: false,
      sliding_window: 4096,
      num_experts_per_tok: 8,
      moe_intermediate_size: 768,
    },
  },
  gemma,
  gemma2,
  gemma3_text: gemma3,
  phi3: {
    slides: every,
    defaults: { rms_norm_eps: 1e-5, max_position_embeddings: 4096, original_max_position_embeddings: 4096 },
  },
};

/** Language parts of multimodal models that are a family's model under another name: text gives every axis one position. */
const languageParts: Readonly<Record<string, string>> = {
  qwen2_vl: "qwen2",
  qwen2_vl_text: "qwen2",
  qwen2_5_vl: "qwen2",
  qwen2_5_vl_text: "qwen2",
  qwen3_vl_text: "qwen3",
};

/** The family's own name for a `model_type`. */
export function familyName(modelType: string | undefined): string | undefined {
  return modelType !== undefined && Object.hasOwn(languageParts, modelType) ? languageParts[modelType] : modelType;
}

/** The row of a `model_type`; a type that is not in the table reads as Llama does. */
export function familyOf(modelType: string | undefined): Family {
  return (modelType !== undefined && Object.hasOwn(families, modelType) && families[modelType]) || {};
}
