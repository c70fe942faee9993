import { UnsupportedError } from "../base/errors.ts";
import type { ModelConfig } from "../formats/config/model-config.ts";
import type { Weights } from "../nn/weights.ts";
import { Llama } from "./llama.ts";
import type { CausalNetwork } from "./network.ts";

type Architecture = new (config: ModelConfig, weights: Weights) => CausalNetwork;

/** Every architecture by the name that `architectures` in config.json gives it. */
const architectures: ReadonlyMap<string, Architecture> = new Map([["LlamaForCausalLM", Llama]]);

/** The same by `model_type`, for configs that name no architecture. */
const byModelType: ReadonlyMap<string, string> = new Map([["llama", "LlamaForCausalLM"]]);

/** Throws UnsupportedError that lists the known ones. */
export function findArchitecture(config: ModelConfig): Architecture {
  const name = config.architecture ?? byModelType.get(config.modelType ?? "");
  const found = architectures.get(name ?? "");
  if (found) return found;
  const given = name ?? config.modelType;
  throw new UnsupportedError(
    `${config.source.file}: ${given ? `architecture "${given}" is not supported` : "no architecture is named"}; supported are ${[...architectures.keys()].join(", ")}`,
  );
}
