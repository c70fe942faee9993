import type { DType } from "../../base/dtype.ts";
import { FormatError, UnsupportedError } from "../../base/errors.ts";
import { describeJson, isJsonObject } from "../json.ts";
import {
  count,
  type FieldSource,
  fieldError,
  finiteNumber,
  flag,
  nested,
  positiveNumber,
  positiveNumbers,
  readField,
  requireField,
  text,
} from "./fields.ts";

interface RopeBase {
  /** The base of the frequencies: theta^(-2i/D). */
  readonly theta: number;
  /**
   * Rounds the frequencies to this dtype; not a field of config.json. float32 when undefined, as from_pretrained computes
   * them; a PyTorch model that was moved as a whole (`model.to(torch.bfloat16)`, `model.half()`) has rounded ones.
   */
  readonly frequencyDType?: DType | undefined;
}

/** Rotary position embedding as data; the frequencies are computed from it where they are used. */
export type RopeConfig =
  | (RopeBase & { readonly type: "default" })
  /** Positions divided by `factor`. */
  | (RopeBase & { readonly type: "linear"; readonly factor: number })
  /** NTK-aware: theta grows with the sequence once it is longer than `originalMaxPositions`, which is max_position_embeddings. */
  | (RopeBase & { readonly type: "dynamic"; readonly factor: number; readonly originalMaxPositions: number })
  /** Llama 3.1: low frequencies divided by `factor`, high ones kept, smoothly in between. */
  | (RopeBase & {
      readonly type: "llama3";
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalMaxPositions: number;
    })
  /** YaRN, arXiv 2309.00071. The attention factor, where not given, follows from `factor` and the two `mscale`. */
  | (RopeBase & {
      readonly type: "yarn";
      readonly factor: number;
      readonly originalMaxPositions: number;
      readonly betaFast: number;
      readonly betaSlow: number;
      readonly attentionFactor: number | undefined;
      readonly mscale: number | undefined;
      readonly mscaleAllDim: number | undefined;
      /** Whether the borders of the ramp are rounded to whole dimensions. */
      readonly truncate: boolean;
    })
  /** LongRoPE: one factor per frequency, `shortFactor` up to `originalMaxPositions` and `longFactor` beyond. */
  | (RopeBase & {
      readonly type: "longrope";
      readonly shortFactor: readonly number[];
      readonly longFactor: readonly number[];
      readonly factor: number;
      readonly originalMaxPositions: number;
      readonly attentionFactor: number | undefined;
    });

export interface RopeContext {
  /** max_position_embeddings: what the scaled model reaches. */
  readonly maxPositions: number;
  /** The dimensions of a head that rotate: D, or a part of it. */
  readonly rotaryDim: number;
  /** When the config names no base. */
  readonly defaultTheta: number;
}

export interface RopeConfigs {
  readonly rope: RopeConfig;
  /** Where layers differ (`full_attention`, `sliding_attention`): one config for each kind. `rope` is then that of full attention. */
  readonly ropeByLayerType: ReadonlyMap<string, RopeConfig> | undefined;
}

/**
 * Reads rotary embedding from both forms: `rope_theta` with `rope_scaling`, and transformers 5's `rope_parameters`.
 * Throws FormatError for missing or contradictory numbers, UnsupportedError for a scaling that is not known.
 */
export function readRope(config: FieldSource, context: RopeContext): RopeConfigs {
  const parameters = nested(config, "rope_parameters") ?? nested(config, "rope_scaling");
  if (parameters) {
    const kinds = Object.entries(parameters.json).filter(([, value]) => isJsonObject(value));
    const isPerLayerType = kinds.length > 0 && !("rope_type" in parameters.json) && !("type" in parameters.json);
    if (isPerLayerType) {
      const byType = new Map(kinds.map(([kind]) => [kind, readOne(config, nested(parameters, kind), context)]));
      return { rope: byType.get("full_attention") ?? byType.values().next().value!, ropeByLayerType: byType };
    }
  }
  return { rope: readOne(config, parameters, context), ropeByLayerType: undefined };
}

function readOne(config: FieldSource, scaling: FieldSource | undefined, context: RopeContext): RopeConfig {
  const outerTheta = readField(config, "rope_theta", positiveNumber, context.defaultTheta);
  if (!scaling) return { type: "default", theta: outerTheta };
  const theta = readField(scaling, "rope_theta", positiveNumber, outerTheta);
  const type = readType(scaling);
  switch (type) {
    case "default":
      return { type, theta };
    case "linear":
      return { type, theta, factor: readFactor(scaling) };
    case "dynamic":
      return {
        type,
        theta,
        factor: readFactor(scaling),
        originalMaxPositions: context.maxPositions,
      };
    case "llama3":
      return { theta, ...readLlama3(config, scaling) };
    case "yarn":
      return { theta, ...readYarn(config, scaling, context) };
    case "longrope":
    case "su": // as the first Phi-3 checkpoints call it
      return { theta, ...readLongRope(config, scaling, context) };
    default:
      throw new UnsupportedError(
        `${scaling.file}: ${scaling.prefix}rope_type ${describeJson(type)} is not supported; known are default, linear, dynamic, llama3, yarn and longrope`,
      );
  }
}

function readType(scaling: FieldSource): string {
  const legacy = readField(scaling, "type", text, undefined);
  return readField(scaling, "rope_type", text, legacy ?? "default");
}

function readFactor(scaling: FieldSource): number {
  const factor = requireField(scaling, "factor", finiteNumber);
  if (factor < 1) throw fieldError(scaling, "factor", factor, "a number of at least 1");
  return factor;
}

/** Stands in the scaling itself, or beside it as in Phi-3. */
function originalMax(config: FieldSource, scaling: FieldSource): number | undefined {
  const name = "original_max_position_embeddings";
  return readField(scaling, name, count, undefined) ?? readField(config, name, count, undefined);
}

function readLlama3(config: FieldSource, scaling: FieldSource) {
  const lowFreqFactor = requireField(scaling, "low_freq_factor", positiveNumber);
  const highFreqFactor = requireField(scaling, "high_freq_factor", positiveNumber);
  if (highFreqFactor <= lowFreqFactor) {
    throw fieldError(scaling, "high_freq_factor", highFreqFactor, `more than low_freq_factor, ${lowFreqFactor}`);
  }
  const originalMaxPositions = originalMax(config, scaling);
  if (originalMaxPositions === undefined) {
    throw fieldError(scaling, "original_max_position_embeddings", undefined, count.expected);
  }
  return { type: "llama3", factor: readFactor(scaling), lowFreqFactor, highFreqFactor, originalMaxPositions } as const;
}

function readYarn(config: FieldSource, scaling: FieldSource, { maxPositions }: RopeContext) {
  const originalMaxPositions = originalMax(config, scaling) ?? maxPositions;
  const hasFactor = readField(scaling, "factor", finiteNumber, undefined) !== undefined;
  const betaFast = readField(scaling, "beta_fast", positiveNumber, 32);
  const betaSlow = readField(scaling, "beta_slow", positiveNumber, 1);
  if (betaFast < betaSlow) throw fieldError(scaling, "beta_fast", betaFast, `at least beta_slow, ${betaSlow}`);
  return {
    type: "yarn",
    factor: hasFactor ? readFactor(scaling) : Math.max(1, maxPositions / originalMaxPositions),
    originalMaxPositions,
    betaFast,
    betaSlow,
    attentionFactor: readField(scaling, "attention_factor", positiveNumber, undefined),
    mscale: readField(scaling, "mscale", finiteNumber, undefined),
    mscaleAllDim: readField(scaling, "mscale_all_dim", finiteNumber, undefined),
    truncate: readField(scaling, "truncate", flag, true),
  } as const;
}

function readLongRope(config: FieldSource, scaling: FieldSource, { maxPositions, rotaryDim }: RopeContext) {
  const shortFactor = requireField(scaling, "short_factor", positiveNumbers);
  const longFactor = requireField(scaling, "long_factor", positiveNumbers);
  for (const [name, factors] of [
    ["short_factor", shortFactor],
    ["long_factor", longFactor],
  ] as const) {
    if (factors.length !== rotaryDim / 2) {
      throw new FormatError(
        scaling.file,
        `${scaling.file}: ${scaling.prefix}${name} has ${factors.length} numbers; expected one per frequency, ${rotaryDim / 2}`,
      );
    }
  }
  const original = originalMax(config, scaling);
  const originalMaxPositions = original ?? maxPositions;
  return {
    type: "longrope",
    shortFactor,
    longFactor,
    factor: original ? maxPositions / original : readField(scaling, "factor", positiveNumber, 1),
    originalMaxPositions,
    attentionFactor: readField(scaling, "attention_factor", positiveNumber, undefined),
  } as const;
}
