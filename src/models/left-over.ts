import { FormatError } from "../base/errors.ts";
import type { ModelConfig } from "../formats/config/model-config.ts";
import type { CheckpointWeights } from "../nn/checkpoint-weights.ts";
import { findDecoder } from "./layout.ts";

/** What checkpoints hold beside parameters: frequencies that old versions of transformers saved. */
const computed = /\.rotary_emb\.inv_freq$/;

/**
 * Looks at what a checkpoint holds and no layer asked for. A head beside tied embeddings is no loss. What belongs to other
 * modalities is named in a warning. Anything else would have changed the results: throws FormatError.
 */
export function reportLeftOver(config: ModelConfig, weights: CheckpointWeights): void {
  const { prefix } = findDecoder(weights);
  const left = weights.unused().filter((name) => !computed.test(name) && !/(^|\.)lm_head\.weight$/.test(name));
  const isOther = (name: string) => config.isLanguagePart && !name.startsWith(`${prefix}.`);
  const unexpected = left.filter((name) => !isOther(name));
  if (unexpected.length > 0) {
    throw new FormatError(
      weights.path,
      `${weights.path} holds ${list(unexpected)} that its config has no place for; config.json and the weights do not belong together`,
    );
  }
  const others = left.filter(isOther);
  if (others.length === 0) return;
  process.emitWarning(
    `${weights.path}: only the language part is loaded; left out: ${others.length} tensors of ${[...new Set(others.map(partOf))].sort().join(", ")}`,
    { type: "LlcudaWarning" },
  );
}

/** Warns of experts that take the memory of plain ones, though the checkpoint has them quantized. */
export function reportMixedExperts({ mixedExperts, path, dtype }: CheckpointWeights): void {
  if (mixedExperts.length === 0) return;
  const types = new Set(mixedExperts.flatMap((mixed) => [...mixed.types]));
  process.emitWarning(
    `${path}: experts that run as one product are not stored in one quantized type (${[...types].join(", ")}), so ${mixedExperts.length} weights of all experts, the first that of "${mixedExperts[0]!.name}", are dequantized and held in ${dtype.name}`,
    { type: "LlcudaWarning" },
  );
}

/** `vision_tower` of `model.vision_tower.encoder.…`. */
function partOf(name: string): string {
  return name.replace(/^model\./, "").split(".")[0]!;
}

function list(names: readonly string[]): string {
  const shown = names.slice(0, 3).map((name) => `"${name}"`);
  const more = names.length - shown.length;
  return `${names.length === 1 ? "a tensor" : "tensors"} ${shown.join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}
