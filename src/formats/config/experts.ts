import { FormatError } from "../../base/errors.ts";
import {
  count,
  type FieldSource,
  type FieldType,
  fieldError,
  flag,
  nonNegativeInteger,
  readField,
  requireField,
} from "./fields.ts";

/** What a config says of a mixture of experts. */
export interface ExpertsConfig {
  /** E. */
  readonly experts: number;
  /** k: experts that a token goes to; at most E. */
  readonly chosen: number;
  /** Whether a token's weights are divided by their sum. */
  readonly normalize: boolean;
  /** F of each expert. */
  readonly intermediateSize: number;
}

/** `num_local_experts` (Mixtral, and all families in transformers 5) or `num_experts` (Qwen), and `num_experts_per_tok`. */
function readCounts(source: FieldSource): Pick<ExpertsConfig, "experts" | "chosen"> {
  const local = readField(source, "num_local_experts", count, undefined);
  const other = readField(source, "num_experts", count, undefined);
  const experts = local ?? other;
  if (experts === undefined) throw fieldError(source, "num_local_experts (or num_experts)", undefined, count.expected);
  if (other !== undefined && other !== experts) {
    throw fieldError(source, "num_experts", other, `${experts}, as num_local_experts says`);
  }
  const chosen = requireField(source, "num_experts_per_tok", count);
  if (chosen > experts) {
    throw new FormatError(
      source.file,
      `${source.file}: ${source.prefix}num_experts_per_tok is ${chosen}, but there are only ${experts} experts; expected a number from 1 to ${experts}`,
    );
  }
  return { experts, chosen };
}

/** Mixtral: every layer is a mixture of experts as wide as `intermediate_size`, with weights that add up to 1. */
export function readMixtralExperts(source: FieldSource): ExpertsConfig {
  return { ...readCounts(source), normalize: true, intermediateSize: requireField(source, "intermediate_size", count) };
}

const layerNumbers: FieldType<number[]> = {
  expected: "a list of layer numbers",
  accepts: (value): value is number[] => Array.isArray(value) && value.every((v) => nonNegativeInteger.accepts(v)),
};

/**
 * Qwen3-MoE: experts of their own width (`moe_intermediate_size`) in every layer but those of `mlp_only_layers` and, with a
 * `decoder_sparse_step` of n, those that are not an n-th one. Undefined for such a layer.
 */
export function readQwenExperts(source: FieldSource, layer: number): ExpertsConfig | undefined {
  const step = readField(source, "decoder_sparse_step", count, 1);
  const dense: readonly number[] = readField(source, "mlp_only_layers", layerNumbers, undefined) ?? [];
  if (dense.includes(layer) || (layer + 1) % step !== 0) return undefined;
  return {
    ...readCounts(source),
    normalize: readField(source, "norm_topk_prob", flag, false),
    intermediateSize: requireField(source, "moe_intermediate_size", count),
  };
}
