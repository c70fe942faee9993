import { FormatError, UnsupportedError } from "../../base/errors.ts";
import { formatShape } from "../../base/shape.ts";
import type { JsonObject } from "../json.ts";
import type { GgufTensor } from "./header.ts";
import type { GgufParts } from "./parts.ts";

/**
 * The rotary fields of config.json. Two kinds of scaling are tensors in GGUF: `rope_freqs.weight` holds what Llama 3.1 divides each
 * frequency by, `rope_factors_*.weight` the factors of LongRoPE.
 */
export function readGgufRope(parts: GgufParts, prefix: string, headDim: number): JsonObject {
  const { metadata } = parts;
  const number = (name: string) => metadata.find("number", `${prefix}.rope.${name}`);
  const rotaryDim = metadata.find("size", `${prefix}.rope.dimension_count`) ?? headDim;
  const theta = number("freq_base") ?? 10_000;
  const isGemma3 = prefix === "gemma3";
  return {
    ...(rotaryDim !== headDim && { partial_rotary_factor: rotaryDim / headDim }),
    rope_theta: theta,
    ...(isGemma3 && { rope_local_base_freq: number("freq_base_swa") ?? 10_000 }),
    ...scaling(parts, prefix, { rotaryDim, theta }),
  };
}

interface RopeShape {
  readonly rotaryDim: number;
  readonly theta: number;
}

function scaling(parts: GgufParts, prefix: string, shape: RopeShape): JsonObject {
  const { metadata, tensors } = parts;
  const number = (name: string) => metadata.find("number", `${prefix}.rope.${name}`);
  const short = tensors.get("rope_factors_short.weight");
  const long = tensors.get("rope_factors_long.weight");
  const original = metadata.find("size", `${prefix}.rope.scaling.original_context_length`);
  if (short && long) {
    return {
      ...(original && { original_max_position_embeddings: original }),
      rope_scaling: {
        rope_type: "longrope",
        short_factor: readFactors(parts, short, shape.rotaryDim),
        long_factor: readFactors(parts, long, shape.rotaryDim),
        ...attentionFactor(number("scaling.attn_factor")),
      },
    };
  }
  const frequencies = tensors.get("rope_freqs.weight");
  if (frequencies) return { rope_scaling: fromDivisors(readFactors(parts, frequencies, shape.rotaryDim), shape) };
  const type = metadata.find("text", `${prefix}.rope.scaling.type`) ?? (number("scale_linear") ? "linear" : "none");
  const factor = number("scaling.factor") ?? number("scale_linear");
  switch (type) {
    case "none":
    case "longrope": // without factors there is nothing to scale by
      return original ? { original_max_position_embeddings: original } : {};
    case "linear":
      return factor && factor !== 1 ? { rope_scaling: { rope_type: "linear", factor } } : {};
    case "yarn":
      return {
        rope_scaling: {
          rope_type: "yarn",
          ...(factor && { factor }),
          ...(original && { original_max_position_embeddings: original }),
          beta_fast: number("scaling.yarn_beta_fast") ?? 32,
          beta_slow: number("scaling.yarn_beta_slow") ?? 1,
          // The file's factor multiplies what follows from `factor`.
          ...attentionFactor(scaled(number("scaling.attn_factor"), factor)),
        },
      };
    default:
      throw new UnsupportedError(
        `${metadata.file}: ${prefix}.rope.scaling.type "${type}" is not supported; known are none, linear, yarn and longrope`,
      );
  }
}

function attentionFactor(value: number | undefined): JsonObject {
  return value === undefined ? {} : { attention_factor: value };
}

function scaled(attention: number | undefined, factor: number | undefined): number | undefined {
  if (attention === undefined || attention === 1) return undefined;
  return attention * (factor && factor > 1 ? 0.1 * Math.log(factor) + 1 : 1);
}

/** The models that have divisors, by their scaling: Llama 3.1 and 3.3, then 3.2. */
const llama3Factors = [8, 32];
const llama3 = { lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 8192 } as const;

/**
 * The scaling that divides frequency i by divisors[i]: Llama 3's by its name when it gives these numbers, else LongRoPE with the
 * same factors for short and long contexts, which divides by them as they are.
 */
function fromDivisors(divisors: readonly number[], { rotaryDim, theta }: RopeShape): JsonObject {
  for (const factor of llama3Factors) {
    const expected = llama3Divisors({ ...llama3, factor }, rotaryDim, theta);
    if (!divisors.every((d, i) => Math.abs(d - expected[i]!) <= 1e-4 * expected[i]!)) continue;
    return {
      rope_type: "llama3",
      factor,
      low_freq_factor: llama3.lowFreqFactor,
      high_freq_factor: llama3.highFreqFactor,
      original_max_position_embeddings: llama3.originalMaxPositions,
    };
  }
  if (divisors.every((d) => d === 1)) return { rope_type: "default" };
  return { rope_type: "longrope", short_factor: divisors, long_factor: divisors, factor: 1, attention_factor: 1 };
}

/** What Llama 3's scaling divides frequencies by. */
export type Llama3Scaling = Readonly<
  Record<"factor" | "lowFreqFactor" | "highFreqFactor" | "originalMaxPositions", number>
>;

/** Llama 3.1's model code: long wavelengths by `factor`, short ones kept, smoothly in between. One number per frequency. */
export function llama3Divisors(scaling: Llama3Scaling, rotaryDim: number, theta: number): number[] {
  const { factor, lowFreqFactor: low, highFreqFactor: high, originalMaxPositions: context } = scaling;
  return Array.from({ length: rotaryDim / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * theta ** ((2 * i) / rotaryDim);
    const smooth = Math.min(1, Math.max(0, (context / wavelength - low) / (high - low)));
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

/** [rotaryDim / 2] float32, positive. */
function readFactors(parts: GgufParts, tensor: GgufTensor, rotaryDim: number): readonly number[] {
  const { file, name, shape, type } = tensor;
  if (type.name !== "F32" || shape.length !== 1 || shape[0] !== rotaryDim / 2) {
    throw new FormatError(
      file,
      `${file}: ${name} is ${type.name} ${formatShape(shape)}; expected F32 [${rotaryDim / 2}], one factor per frequency`,
    );
  }
  const factors = new Float32Array(rotaryDim / 2);
  parts.fileOf(file).readSync(new Uint8Array(factors.buffer), tensor.byteOffset);
  if (factors.every((factor) => factor > 0 && Number.isFinite(factor))) return [...factors];
  throw new FormatError(file, `${file}: ${name} holds a factor that is no positive number`);
}
