import { UnsupportedError } from "../base/errors.ts";
import type { ModelConfig } from "../formats/config/model-config.ts";
import { refuseForeignWeights } from "../formats/stored/foreign.ts";
import { storedTypeName, storedWeights } from "../formats/stored/stored-weights.ts";
import type { WeightSource } from "../formats/weight-source.ts";
import { headDimRefusal } from "../kernels/attention/plan.ts";
import { findArchitecture } from "./architectures.ts";

/**
 * Throws UnsupportedError, naming the reason, for a model that this version cannot load: its architecture, the size of its heads,
 * or how its weights are stored. `path` is for messages.
 */
export function checkLoadable(config: ModelConfig, source: WeightSource, path: string): void {
  findArchitecture(config);
  const heads = headDimRefusal(config.headDim);
  if (heads) throw new UnsupportedError(`${config.source.file}: ${heads}`);
  refuseForeignWeights(source, path, config.quantization);
  for (const weight of storedWeights(source).values()) {
    if (weight.kind !== "unknown") continue;
    throw new UnsupportedError(
      `${path}: ${weight.name} is ${storedTypeName(weight)}, which llcuda has no kernels for; use a bitsandbytes 4-bit, GGUF or 16-bit version of the model`,
    );
  }
}
