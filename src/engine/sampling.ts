import { ArgumentError } from "../base/errors.ts";

/** How the next token is drawn. It applies in this order: repetition penalty, temperature, top-k, top-p, min-p. */
export interface SamplingParameters {
  /** 0 takes the most probable token; 1 leaves the model's distribution as it is. */
  readonly temperature: number;
  /** Keep the k most probable tokens; 0 keeps all. */
  readonly topK: number;
  /** Keep the smallest set of most probable tokens whose probability sums to at least this; 1 keeps all. */
  readonly topP: number;
  /** Keep tokens at least this fraction as probable as the most probable one; 0 keeps all. */
  readonly minP: number;
  /**
   * Makes tokens of the prompt and the answer less likely: a logit is divided by it where it is positive, else multiplied.
   * 1, and by default, leaves them as they are. Greedy decoding heeds it too.
   */
  readonly repetitionPenalty?: number;
  /** 64-bit seed; the same seed, prompt and model give the same tokens. */
  readonly seed: bigint;
}

export type SamplingOptions = {
  readonly [Name in Exclude<keyof SamplingParameters, "seed">]?: SamplingParameters[Name] | undefined;
} & { readonly seed?: number | bigint | undefined };

/** Checks ranges and fills in defaults. Throws ArgumentError naming the option. A missing seed is drawn at random. */
export function samplingParameters(options: SamplingOptions, defaults: SamplingOptions = {}): SamplingParameters {
  const temperature = options.temperature ?? defaults.temperature ?? 1;
  const topK = options.topK ?? defaults.topK ?? 0;
  const topP = options.topP ?? defaults.topP ?? 1;
  const minP = options.minP ?? defaults.minP ?? 0;
  const repetitionPenalty = options.repetitionPenalty ?? defaults.repetitionPenalty ?? 1;
  if (!(temperature >= 0 && temperature <= 100)) {
    throw new ArgumentError(`temperature must be a number from 0 (greedy) to 100, got ${temperature}`);
  }
  if (!Number.isInteger(topK) || topK < 0)
    throw new ArgumentError(`topK must be a whole number, 0 for off, got ${topK}`);
  if (!(topP > 0 && topP <= 1)) throw new ArgumentError(`topP must be above 0 and at most 1, got ${topP}`);
  if (!(minP >= 0 && minP <= 1)) throw new ArgumentError(`minP must be from 0 to 1, got ${minP}`);
  if (!(repetitionPenalty > 0 && repetitionPenalty <= 100)) {
    throw new ArgumentError(`repetitionPenalty must be above 0 and at most 100, 1 for off, got ${repetitionPenalty}`);
  }
  return { temperature, topK, topP, minP, repetitionPenalty, seed: seedBits(options.seed ?? defaults.seed) };
}

function seedBits(seed: number | bigint | undefined): bigint {
  if (seed === undefined) return BigInt(Math.floor(Math.random() * Number.MAX_SAFE_INTEGER));
  if (typeof seed === "number" && !Number.isInteger(seed)) {
    throw new ArgumentError(`seed must be a whole number, got ${seed}`);
  }
  return BigInt.asUintN(64, BigInt(seed));
}
