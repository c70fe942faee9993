import { UnsupportedError } from "../../base/errors.ts";
import type { GgufMetadata } from "./metadata.ts";

/** Where an expert's projections are in a checkpoint; `{e}` is its number. */
export interface ExpertNames {
  readonly router: string;
  readonly ffn_gate: string;
  readonly ffn_up: string;
  readonly ffn_down: string;
}

/**
 * What a GGUF architecture stands for in HuggingFace's terms, and how its tensors differ, as data. Sources: llama.cpp's tensor names
 * (gguf-py, tensor_mapping) and what its converter does to tensors (conversion scripts, `modify_tensors`).
 */
export interface GgufArchitecture {
  /** `model_type` and `architectures[0]` of the config.json that it came from. */
  readonly modelType: string;
  readonly name: string;
  /** Modules of a layer, below `model.layers.N`, by their names below `blk.N`. */
  readonly layer: Readonly<Record<string, string>>;
  readonly experts?: ExpertNames;
  /** Rows of queries and keys are stored for rotation in adjacent pairs; checkpoints pair the halves of a head. */
  readonly interleavedRotary?: boolean;
  /** Norms are stored with the one added that checkpoints leave to the model. */
  readonly normsPlusOne?: boolean;
  /** Activations pass the largest float16, so that bfloat16 is what to compute in. */
  readonly needsBfloat16?: boolean;
  readonly activation: "silu" | "gelu_pytorch_tanh";
}

/** Modules outside the layers, the same for all. */
export const modelTensors: Readonly<Record<string, string>> = {
  token_embd: "model.embed_tokens",
  output_norm: "model.norm",
  output: "lm_head",
};

/** Tensors that are data of the rotation: they go into the config, or, in old files of each layer, follow from it. */
export const rotaryTensor = /^(rope_freqs|rope_factors_long|rope_factors_short|blk\.\d+\.attn_rot_embd)\.weight$/;

const dense: Readonly<Record<string, string>> = {
  attn_norm: "input_layernorm",
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_output: "self_attn.o_proj",
  ffn_norm: "post_attention_layernorm",
  ffn_gate: "mlp.gate_proj",
  ffn_up: "mlp.up_proj",
  ffn_down: "mlp.down_proj",
};
const qkNorms = { attn_q_norm: "self_attn.q_norm", attn_k_norm: "self_attn.k_norm" } as const;
const fourNorms = {
  post_attention_norm: "post_attention_layernorm",
  ffn_norm: "pre_feedforward_layernorm",
  post_ffw_norm: "post_feedforward_layernorm",
} as const;
const gemma = { normsPlusOne: true, needsBfloat16: true, activation: "gelu_pytorch_tanh" } as const;

const llama: GgufArchitecture = {
  modelType: "llama",
  name: "LlamaForCausalLM",
  layer: dense,
  interleavedRotary: true,
  activation: "silu",
};

/** llama.cpp calls Mistral and Mixtral `llama` too. */
const mistral: GgufArchitecture = { ...llama, modelType: "mistral", name: "MistralForCausalLM" };
const mixtral: GgufArchitecture = {
  ...llama,
  modelType: "mixtral",
  name: "MixtralForCausalLM",
  experts: {
    router: "block_sparse_moe.gate",
    ffn_gate: "block_sparse_moe.experts.{e}.w1",
    ffn_up: "block_sparse_moe.experts.{e}.w3",
    ffn_down: "block_sparse_moe.experts.{e}.w2",
  },
};

const architectures: Readonly<Record<string, GgufArchitecture>> = {
  llama,
  qwen2: { modelType: "qwen2", name: "Qwen2ForCausalLM", layer: dense, activation: "silu" },
  qwen3: { modelType: "qwen3", name: "Qwen3ForCausalLM", layer: { ...dense, ...qkNorms }, activation: "silu" },
  qwen3moe: {
    modelType: "qwen3_moe",
    name: "Qwen3MoeForCausalLM",
    layer: { ...dense, ...qkNorms },
    experts: {
      router: "mlp.gate",
      ffn_gate: "mlp.experts.{e}.gate_proj",
      ffn_up: "mlp.experts.{e}.up_proj",
      ffn_down: "mlp.experts.{e}.down_proj",
    },
    activation: "silu",
  },
  gemma: { modelType: "gemma", name: "GemmaForCausalLM", layer: dense, ...gemma },
  gemma2: { modelType: "gemma2", name: "Gemma2ForCausalLM", layer: { ...dense, ...fourNorms }, ...gemma },
  gemma3: {
    modelType: "gemma3_text",
    name: "Gemma3ForCausalLM",
    layer: { ...dense, ...fourNorms, ...qkNorms },
    ...gemma,
  },
  phi3: {
    modelType: "phi3",
    name: "Phi3ForCausalLM",
    layer: { ...dense, attn_qkv: "self_attn.qkv_proj", ffn_up: "mlp.gate_up_proj" },
    activation: "silu",
  },
};

/**
 * The GGUF architecture that a `model_type` is written as, and its row. Throws UnsupportedError that lists the known ones; `file`
 * is for messages.
 */
export function ggufArchitectureOf(modelType: string | undefined, file: string): [string, GgufArchitecture] {
  const rows = [...Object.entries(architectures), ["llama", mistral], ["llama", mixtral]] as const;
  const found = rows.find(([, row]) => row.modelType === modelType);
  if (found) return [found[0], found[1]];
  throw new UnsupportedError(
    `${file}: a model of type "${modelType}" cannot be written as GGUF; known are ${rows.map(([, row]) => row.modelType).join(", ")}`,
  );
}

/** Throws UnsupportedError that lists the known ones, FormatError when the file names none. */
export function findGgufArchitecture(metadata: GgufMetadata): GgufArchitecture {
  const name = metadata.require("text", "general.architecture");
  const found = Object.hasOwn(architectures, name) ? architectures[name] : undefined;
  if (!found) {
    throw new UnsupportedError(
      `${metadata.file}: architecture "${name}" is not supported; GGUF files are read for ${Object.keys(architectures).join(", ")}`,
    );
  }
  if (found !== llama) return found;
  if (metadata.find("size", "llama.expert_count")) return mixtral;
  return metadata.find("size", "llama.attention.sliding_window") ? mistral : llama;
}
