import { FormatError } from "../../base/errors.ts";
import { formatShape } from "../../base/shape.ts";
import type { ModelConfig } from "../../formats/config/model-config.ts";
import type { StoredWeight } from "../../formats/stored/stored-weights.ts";
import { findArchitecture } from "../architectures.ts";

/** What the weights of a decoder have before their names, that of `embed_tokens.weight`: `model.` in most checkpoints. */
export function decoderPrefix(weights: readonly StoredWeight[]): string {
  const embedding = "embed_tokens.weight";
  return weights.find(({ name }) => name.endsWith(embedding))?.name.slice(0, -embedding.length) ?? "model.";
}

/**
 * Throws UnsupportedError for an architecture that llcuda does not know, FormatError where weights are not those of the config: an
 * embedding of another shape, layers that are missing or too many. Loading looks at every shape; what is only written anew must
 * not become a model that no program loads.
 */
export function checkBelongTogether(config: ModelConfig, weights: readonly StoredWeight[], path: string): void {
  findArchitecture(config);
  const prefix = decoderPrefix(weights);
  const mismatch = (problem: string) =>
    new FormatError(path, `${path}: ${problem}; config.json and the weights do not belong together`);
  const embedding = weights.find(({ name }) => name === `${prefix}embed_tokens.weight`);
  const expected = [config.vocabSize, config.hiddenSize];
  if (!embedding) throw mismatch("there is no embed_tokens.weight");
  if (formatShape(embedding.shape) !== formatShape(expected)) {
    const found = `${embedding.name} is ${formatShape(embedding.shape)}`;
    throw mismatch(`${found}, but the config calls for ${formatShape(expected)}`);
  }
  const layers = new Set<number>();
  for (const { name } of weights) {
    const number = name.startsWith(prefix) && /^layers\.(\d+)\./.exec(name.slice(prefix.length))?.[1];
    if (number) layers.add(Number(number));
  }
  if (layers.size !== config.numHiddenLayers || Math.max(...layers) !== layers.size - 1) {
    throw mismatch(`there are weights of ${layers.size} layers, but the config calls for ${config.numHiddenLayers}`);
  }
}
