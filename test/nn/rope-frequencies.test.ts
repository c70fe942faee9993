import { describe, expect, test } from "vitest";
import { bfloat16 } from "../../src/base/dtype.ts";
import { bf16ToNumber, numberToBf16 } from "../../src/base/float.ts";
import type { RopeConfig } from "../../src/formats/config/rope.ts";
import { dynamicFrequencyFactor, ropeFrequencies } from "../../src/nn/rope-frequencies.ts";

/** Largest relative difference; a float32 holds a number to 6e-8. */
function worst(actual: ArrayLike<number>, expected: readonly number[]): number {
  expect(actual.length).toBe(expected.length);
  return Math.max(...expected.map((e, i) => Math.abs(actual[i]! - e) / Math.abs(e)));
}
const float32Error = 6e-8;

const yarn = {
  type: "yarn",
  theta: 10000,
  factor: 4,
  originalMaxPositions: 64,
  betaFast: 32,
  betaSlow: 1,
  attentionFactor: undefined,
  mscale: undefined,
  mscaleAllDim: undefined,
  truncate: true,
} as const;

describe("ropeFrequencies", () => {
  test("rounds to a 16-bit dtype when asked to", () => {
    const rope = { type: "default", theta: 10000 } as const;
    const exact = ropeFrequencies(rope, 64).frequencies;
    const rounded = ropeFrequencies({ ...rope, frequencyDType: bfloat16 }, 64).frequencies;
    expect([...rounded]).toEqual([...exact].map((f) => bf16ToNumber(numberToBf16(f))));
    expect(worst(rounded, [...exact]) > 1e-3).toBe(true);
  });

  test("default: theta^(-2i/R)", () => {
    const { frequencies, attentionScale, byLength } = ropeFrequencies({ type: "default", theta: 10000 }, 8);
    expect(worst(frequencies, [1, 0.1, 0.01, 0.001])).toBeLessThan(float32Error);
    expect(attentionScale).toBe(1);
    expect(byLength).toBe(undefined);
  });

  test("linear: positions divided by the factor", () => {
    const { frequencies } = ropeFrequencies({ type: "linear", theta: 10000, factor: 4 }, 8);
    expect(worst(frequencies, [0.25, 0.025, 0.0025, 0.00025])).toBeLessThan(float32Error);
  });

  test("dynamic: plain frequencies, and the base of a longer sequence from its length", () => {
    const rope: RopeConfig = { type: "dynamic", theta: 10000, factor: 2, originalMaxPositions: 100 };
    const { frequencies, byLength } = ropeFrequencies(rope, 8);
    expect(worst(frequencies, [1, 0.1, 0.01, 0.001])).toBeLessThan(float32Error);
    const dynamic = { factor: 2, trainedContext: 100 };
    expect(byLength).toEqual(dynamic);
    expect(dynamicFrequencyFactor(dynamic, 100, 3, 8)).toBe(1);
    // 250 tokens: theta · (2 · 2.5 - 1)^(8/6) = 10000 · 4^(4/3), so frequency i is 10^-i · 4^(-i/3).
    for (const i of [0, 1, 2, 3]) {
      expect(Math.abs(dynamicFrequencyFactor(dynamic, 250, i, 8) / 4 ** (-i / 3) - 1)).toBeLessThan(1e-14);
    }
  });

  test("llama3: long wavelengths are stretched, short ones kept, smoothly between", () => {
    const rope: RopeConfig = {
      type: "llama3",
      theta: 500000,
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalMaxPositions: 8192,
    };
    const { frequencies } = ropeFrequencies(rope, 128);
    const plain = (i: number) => 500000 ** (-i / 64);
    // Wavelengths 2π/f: kept below 8192/4 = 2048, that is up to i = 28; divided by 8 above 8192, from i = 35 on.
    for (const i of [0, 1, 28]) expect(Math.abs(frequencies[i]! / plain(i) - 1)).toBeLessThan(float32Error);
    for (const i of [35, 50, 63]) expect(Math.abs((frequencies[i]! * 8) / plain(i) - 1)).toBeLessThan(float32Error);
    // i = 31: 8192·f/2π = 2.2626 rotations, smooth factor (2.2626 - 1)/3 = 0.42087.
    const smooth = ((8192 * plain(31)) / (2 * Math.PI) - 1) / 3;
    expect(Math.abs(smooth - 0.4209)).toBeLessThan(1e-3);
    expect(Math.abs(frequencies[31]! / (plain(31) * ((1 - smooth) / 8 + smooth)) - 1)).toBeLessThan(float32Error);
  });

  test("yarn: high frequencies kept, low ones divided by the factor, a ramp between", () => {
    const { frequencies, attentionScale } = ropeFrequencies(yarn, 64);
    // Index of n rotations in 64 positions: 64·ln(64/2πn)/(2·ln 10000): -3.97 for 32, so 0; 8.06 for 1, so 9.
    const expected = Array.from({ length: 32 }, (_, i) => {
      const ramp = Math.min(1, i / 9);
      return 10000 ** (-i / 32) * (ramp / 4 + 1 - ramp);
    });
    expect(worst(frequencies, expected)).toBeLessThan(float32Error);
    expect(attentionScale).toBe(0.1 * Math.log(4) + 1);
  });

  test("yarn: borders that are not rounded, and that coincide", () => {
    const exact = 64 * (Math.log(64 / (2 * Math.PI)) / (2 * Math.log(10000)));
    const { frequencies } = ropeFrequencies({ ...yarn, truncate: false }, 64);
    const ramp = 4 / exact;
    expect(Math.abs(frequencies[4]! / (10000 ** (-4 / 32) * (ramp / 4 + 1 - ramp)) - 1)).toBeLessThan(float32Error);
    const step = ropeFrequencies({ ...yarn, truncate: false, betaFast: 1 }, 64).frequencies; // both borders at 8.06
    expect(Math.abs(step[8]! / 10000 ** (-8 / 32) - 1)).toBeLessThan(float32Error);
    expect(Math.abs(step[9]! / (10000 ** (-9 / 32) / 4) - 1)).toBeLessThan(float32Error);
  });

  test("yarn: the attention factor as given, or from the two mscales", () => {
    expect(ropeFrequencies({ ...yarn, attentionFactor: 1.5 }, 64).attentionScale).toBe(1.5);
    const scaled = ropeFrequencies({ ...yarn, factor: 40, mscale: 1, mscaleAllDim: 0.5 }, 64).attentionScale;
    expect(scaled).toBe((0.1 * Math.log(40) + 1) / (0.05 * Math.log(40) + 1));
    expect(ropeFrequencies({ ...yarn, factor: 1 }, 64).attentionScale).toBe(1);
  });

  test("longrope: a table for each side of the original context, and one factor for both", () => {
    const rope: RopeConfig = {
      type: "longrope",
      theta: 10000,
      shortFactor: [1, 1.25],
      longFactor: [2, 40],
      factor: 32,
      originalMaxPositions: 4096,
      attentionFactor: undefined,
    };
    const { frequencies, attentionScale, byLength } = ropeFrequencies(rope, 4);
    expect(worst(frequencies, [1, 0.008, 0.5, 0.00025])).toBeLessThan(float32Error);
    // As Phi-3's 128k models have it: √(1 + ln 32 / ln 4096) = √(1 + 5 / 12).
    expect(attentionScale).toBeCloseTo(Math.sqrt(17 / 12), 14);
    expect(byLength).toEqual({ trainedContext: 4096 });
    expect(ropeFrequencies({ ...rope, factor: 1 }, 4).attentionScale).toBe(1);
    expect(ropeFrequencies({ ...rope, attentionFactor: 1.5 }, 4).attentionScale).toBe(1.5);
    const rounded = ropeFrequencies({ ...rope, frequencyDType: bfloat16 }, 4).frequencies;
    expect([...rounded]).toEqual([1, bf16ToNumber(numberToBf16(0.008)), 0.5, Math.fround(0.00025)]);
  });

  test("no rotated dimensions, no frequencies", () => {
    expect(ropeFrequencies({ type: "default", theta: 10000 }, 0).frequencies.length).toBe(0);
  });
});
