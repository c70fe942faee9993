import { describe, expect, test } from "vitest";
import { DivergenceMeter, klDivergence } from "../../src/engine/divergence.ts";

const log = (probabilities: readonly number[], shift = 0) =>
  Float32Array.from(probabilities, (p) => Math.log(p) + shift);

describe("klDivergence", () => {
  test("is the sum over p of p log(p / q), whatever is added to logits", () => {
    const [p, q] = [
      [0.5, 0.25, 0.25],
      [0.25, 0.5, 0.25],
    ];
    const expected = 0.5 * Math.log(2) + 0.25 * Math.log(0.5);
    // Logits are float32: 1e-6 of their size.
    expect(klDivergence(log(p!, 3), log(q!, -200))).toBeCloseTo(expected, 4);
    expect(klDivergence(log(p!), log(p!, 7))).toBeCloseTo(0, 6);
  });

  test("is not the same both ways, and large logits do not overflow", () => {
    const [a, b] = [Float32Array.of(1000, 0, -1000), Float32Array.of(0, 1000, -1000)];
    expect(klDivergence(a, b)).toBeCloseTo(1000, 6);
    const [c, d] = [log([0.9, 0.1]), log([0.5, 0.5])];
    expect(klDivergence(c, d)).not.toBeCloseTo(klDivergence(d, c), 2);
  });

  test("a token that B rules out costs, one that A rules out does not", () => {
    const half = Float32Array.of(0, 0);
    expect(klDivergence(half, Float32Array.of(0, Number.NEGATIVE_INFINITY))).toBe(Number.POSITIVE_INFINITY);
    expect(klDivergence(Float32Array.of(0, Number.NEGATIVE_INFINITY), half)).toBeCloseTo(Math.log(2), 6);
  });
});

describe("DivergenceMeter", () => {
  test("mean, percentile and maximum over positions, and how often the best token is the same", () => {
    const meter = new DivergenceMeter();
    const [same, other] = [Float32Array.of(2, 1), Float32Array.of(1, 2)];
    for (let i = 0; i < 99; i++) meter.add(same, same, 2);
    meter.add(same, other, 2);
    const kl = klDivergence(same, other);
    const result = meter.result();
    expect(result).toMatchObject({ tokens: 100, p99Kl: 0, maxKl: kl, top1Agreement: 0.99 });
    expect(result.meanKl).toBeCloseTo(kl / 100, 12);
  });

  test("takes several positions at once", () => {
    const meter = new DivergenceMeter();
    meter.add(Float32Array.of(1, 0, 0, 1), Float32Array.of(1, 0, 1, 0), 2);
    expect(meter.result()).toMatchObject({ tokens: 2, top1Agreement: 0.5 });
  });

  test("one NaN is in the mean and the maximum", () => {
    const meter = new DivergenceMeter();
    meter.add(Float32Array.of(0, 1, 0, 1), Float32Array.of(0, 1, Number.NaN, 1), 2);
    const { meanKl, maxKl } = meter.result();
    expect([meanKl, maxKl]).toEqual([Number.NaN, Number.NaN]);
  });
});
