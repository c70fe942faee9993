import { FormatError, UnsupportedError } from "../base/errors.ts";
import type { ModelConfig } from "../formats/config/model-config.ts";
import type { BuildLayer } from "./decoder.ts";
import { gemma2Layer } from "./gemma2.ts";
import { llamaLayer } from "./llama.ts";
import { mixtralLayer } from "./mixtral.ts";
import { phi3Layer } from "./phi3.ts";
import { qwen3MoeLayer } from "./qwen3-moe.ts";

export interface Architecture {
  /** As `model_type` in config.json. */
  readonly modelType: string;
  /** As `architectures` in config.json. */
  readonly name: string;
  readonly layer: BuildLayer;
}

/**
 * Every architecture: the layer that it is made of. What the families with Llama's layer differ by is data, in
 * src/formats/config/families.ts.
 */
export const architectures: readonly Architecture[] = [
  { modelType: "llama", name: "LlamaForCausalLM", layer: llamaLayer },
  { modelType: "mistral", name: "MistralForCausalLM", layer: llamaLayer },
  { modelType: "mixtral", name: "MixtralForCausalLM", layer: mixtralLayer },
  { modelType: "qwen2", name: "Qwen2ForCausalLM", layer: llamaLayer },
  { modelType: "qwen3", name: "Qwen3ForCausalLM", layer: llamaLayer },
  { modelType: "qwen3_moe", name: "Qwen3MoeForCausalLM", layer: qwen3MoeLayer },
  { modelType: "gemma", name: "GemmaForCausalLM", layer: llamaLayer },
  { modelType: "gemma2", name: "Gemma2ForCausalLM", layer: gemma2Layer },
  { modelType: "gemma3_text", name: "Gemma3ForCausalLM", layer: gemma2Layer },
  { modelType: "phi3", name: "Phi3ForCausalLM", layer: phi3Layer },
];

/**
 * The architecture that a config names; of a checkpoint with several modalities, that of its language part.
 * Throws UnsupportedError that lists the known ones, FormatError when `architectures` and `model_type` disagree.
 */
export function findArchitecture(config: ModelConfig): Architecture {
  const { architecture: name, modelType, isLanguagePart } = config;
  const { file } = config.source;
  const byType = architectures.find((row) => row.modelType === modelType);
  if (isLanguagePart || name === undefined) {
    if (byType) return byType;
    const place = isLanguagePart
      ? `text_config: its language part, model_type "${modelType}",`
      : `model_type "${modelType}"`;
    throw new UnsupportedError(`${file}: ${place} is not supported; ${supported((row) => row.modelType)}`);
  }
  const byName = architectures.find((row) => row.name === name);
  if (!byName) {
    throw new UnsupportedError(`${file}: architecture "${name}" is not supported; ${supported((row) => row.name)}`);
  }
  // Without a type the numbers have been read as Llama's.
  if (byName.modelType !== (modelType ?? "llama")) {
    throw new FormatError(
      file,
      `${file}: architectures names "${name}" and model_type is ${modelType === undefined ? "missing" : `"${modelType}"`}; expected model_type "${byName.modelType}"`,
    );
  }
  return byName;
}

function supported(key: (row: Architecture) => string): string {
  return `supported are ${architectures.map(key).join(", ")}`;
}
