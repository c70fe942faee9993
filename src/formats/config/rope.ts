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
  /** Of the layers that see the whole context. */
  readonly rope: RopeConfig;
  /** Of sliding-window layers: the same object, but where a family (Gemma 3) gives them a base of their own. */
  readonly slidingRope: RopeConfig;
}

/**
 * Reads rotary embedding from both forms: `rope_theta` with `rope_scaling`, and transformers 5's `rope_parameters`. Two bases
 * are `rope_theta` and `rope_local_base_freq` in the first form, and one object for each layer type in the second.
 * Throws FormatError for missing or contradictory numbers, UnsupportedError for a scaling that is not known.
 */
export function readRope(config: FieldSource, context: RopeContext): RopeConfigs {
  const parameters = nested(config, "rope_parameters") ?? nested(config, "rope_scaling");
  const byLayerType = parameters !== undefined && isByLayerType(parameters);
  const rope = readOne(config, byLayerType ? nested(parameters, "full_attention") : parameters, context);
  const sliding = byLayerType ? nested(parameters, "sliding_attention") : undefined;
  if (sliding) return { rope, slidingRope: readOne(config, sliding, context) };
  const localTheta = readField(config, "rope_local_base_freq", positiveNumber, undefined);
  // A scaling stretches what is far apart, which a window never holds: it is for the other layers only.
  return { rope, slidingRope: localTheta === undefined ? rope : { type: "default", theta: localTheta } };
}

function isByLayerType(parameters: FieldSource): boolean {
  return isJsonObject(parameters.json.full_attention) || isJsonObject(parameters.json.sliding_attention);
}

function readOne(config: FieldSource, scaling: FieldSource | undefined, context: RopeContext): RopeConfig {
  const outerTheta = readField(config, "rope_theta", positiveNumber, context.defaultTheta);
  if (!scaling) return { type: "default", theta: outerTheta };
  const theta = readField(scaling, "rope_theta", positiveNumber, outerTheta);
  const type = readType(scaling);
  switch (type) {
    case "mrope": // three axes of positions, which are the same for text
      return { type: "default", theta };
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
      // The first Phi-3 checkpoints call longrope "su" or "yarn".
      if ("short_factor" in scaling.json) return { theta, ...readLongRope(config, scaling, context) };
      return { theta, ...readYarn(config, scaling, context) };
    case "longrope":
    case "su":
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
  const originalMaxPositions = originalMax(config, scaling) ?? maxPositions;
  return {
    type: "longrope",
    shortFactor,
    longFactor,
    factor: readField(scaling, "factor", positiveNumber, maxPositions / originalMaxPositions),
    originalMaxPositions,
    attentionFactor: readField(scaling, "attention_factor", positiveNumber, undefined),
  } as const;
}
