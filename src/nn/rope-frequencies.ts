import { decodeArray, encodeArray } from "../base/element.ts";
import type { RopeConfig } from "../formats/config/rope.ts";

/** What the rotary kernels need of a RopeConfig; `frequencies` go to device memory once, when the model is made. */
export interface RopeFrequencies {
  /**
   * [rotaryDim / 2] radians per position, computed in float64 and rounded to float32, or to RopeConfig.frequencyDType. For
   * rope_type "longrope" two of them, one after the other: for sequences of up to `trainedContext` tokens, and for longer ones.
   */
  readonly frequencies: Float32Array;
  /** Multiplies cos and sin. */
  readonly attentionScale: number;
  /**
   * Where frequencies depend on the length of the sequence: what they are for beyond `trainedContext`. With `factor`
   * ("dynamic") they shrink as the sequence grows; without it ("longrope") they are the second table.
   */
  readonly byLength: { readonly factor?: number; readonly trainedContext: number } | undefined;
}

/**
 * The frequencies of every rope_type, by transformers' names. `rotaryDim` is the even number of leading elements of a head
 * that rotate: D, or D times `partial_rotary_factor`.
 * Sources: RoFormer, arXiv 2104.09864 (default); position interpolation, arXiv 2306.15595 (linear); NTK-aware scaling of
 * the base (dynamic); YaRN, arXiv 2309.00071; LongRoPE, arXiv 2402.13753; Llama 3.1's model code (llama3).
 */
export function ropeFrequencies(rope: RopeConfig, rotaryDim: number): RopeFrequencies {
  const exact = exactFrequencies(rope, rotaryDim);
  const dtype = rope.frequencyDType;
  if (!dtype) return exact;
  // The second table of "longrope" is never rounded: PyTorch computes it when it is first needed, after the model was moved.
  const rounded = decodeArray(dtype, encodeArray(dtype, exact.frequencies.slice(0, rotaryDim / 2)));
  const frequencies = exact.frequencies.slice();
  frequencies.set(rounded);
  return { ...exact, frequencies };
}

function exactFrequencies(rope: RopeConfig, rotaryDim: number): RopeFrequencies {
  const plain = defaultFrequencies(rope.theta, rotaryDim);
  switch (rope.type) {
    case "default":
      return table(plain);
    case "linear":
      return table(plain.map((f) => f / rope.factor));
    case "dynamic":
      return { ...table(plain), byLength: { factor: rope.factor, trainedContext: rope.originalMaxPositions } };
    case "llama3":
      return table(plain.map((f) => llama3Frequency(f, rope)));
    case "yarn":
      return table(yarnFrequencies(plain, rope, rotaryDim), yarnAttentionScale(rope));
    case "longrope": {
      const divided = (factors: readonly number[]) => plain.map((f, i) => f / factors[i]!);
      const both = table([...divided(rope.shortFactor), ...divided(rope.longFactor)], longRopeAttentionScale(rope));
      return { ...both, byLength: { trainedContext: rope.originalMaxPositions } };
    }
  }
}

/**
 * What "dynamic" multiplies frequency `i` with for a sequence of `length` tokens: the base becomes
 * theta · (factor · length / trainedContext - (factor - 1))^(R / (R - 2)). The kernels compute the same from the context
 * length in device memory; transformers does so from the longest sequence of a batch, which is the same for one sequence.
 */
export function dynamicFrequencyFactor(
  dynamic: { readonly factor: number; readonly trainedContext: number },
  length: number,
  i: number,
  rotaryDim: number,
): number {
  if (length <= dynamic.trainedContext) return 1;
  const stretch = (dynamic.factor * length) / dynamic.trainedContext - (dynamic.factor - 1);
  return stretch ** ((-2 * i) / (rotaryDim - 2));
}

function table(frequencies: readonly number[], attentionScale = 1): RopeFrequencies {
  return { frequencies: Float32Array.from(frequencies), attentionScale, byLength: undefined };
}

function defaultFrequencies(theta: number, rotaryDim: number): number[] {
  return Array.from({ length: rotaryDim / 2 }, (_, i) => theta ** ((-2 * i) / rotaryDim));
}

/**
 * Wavelengths shorter than originalMaxPositions / highFreqFactor are kept, those longer than originalMaxPositions /
 * lowFreqFactor are stretched by `factor`, and between them the frequency is interpolated.
 */
function llama3Frequency(frequency: number, rope: Extract<RopeConfig, { type: "llama3" }>): number {
  const rotations = (rope.originalMaxPositions * frequency) / (2 * Math.PI);
  if (rotations > rope.highFreqFactor) return frequency;
  if (rotations < rope.lowFreqFactor) return frequency / rope.factor;
  const kept = (rotations - rope.lowFreqFactor) / (rope.highFreqFactor - rope.lowFreqFactor);
  return ((1 - kept) * frequency) / rope.factor + kept * frequency;
}

type Yarn = Extract<RopeConfig, { type: "yarn" }>;

/** Frequencies that turn more than betaFast times in the original context are kept, fewer than betaSlow divided by `factor`. */
function yarnFrequencies(plain: readonly number[], rope: Yarn, rotaryDim: number): number[] {
  const indexOfRotations = (rotations: number) =>
    (rotaryDim * Math.log(rope.originalMaxPositions / (rotations * 2 * Math.PI))) / (2 * Math.log(rope.theta));
  const round = rope.truncate ? { down: Math.floor, up: Math.ceil } : { down: Number, up: Number };
  const low = Math.max(round.down(indexOfRotations(rope.betaFast)), 0);
  let high = Math.min(round.up(indexOfRotations(rope.betaSlow)), rotaryDim - 1);
  if (high === low) high += 0.001; // a step instead of a ramp, as the reference has it
  return plain.map((f, i) => {
    const interpolated = Math.min(1, Math.max(0, (i - low) / (high - low)));
    return (f / rope.factor) * interpolated + f * (1 - interpolated);
  });
}

function yarnAttentionScale(rope: Yarn): number {
  if (rope.attentionFactor !== undefined) return rope.attentionFactor;
  const mscale = (weight: number) => (rope.factor <= 1 ? 1 : 0.1 * weight * Math.log(rope.factor) + 1);
  return rope.mscale && rope.mscaleAllDim ? mscale(rope.mscale) / mscale(rope.mscaleAllDim) : mscale(1);
}

/** The same for both tables: what the context is stretched by spreads the scores. */
function longRopeAttentionScale(rope: Extract<RopeConfig, { type: "longrope" }>): number {
  if (rope.attentionFactor !== undefined) return rope.attentionFactor;
  return rope.factor <= 1 ? 1 : Math.sqrt(1 + Math.log(rope.factor) / Math.log(rope.originalMaxPositions));
}
