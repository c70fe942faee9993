import { describe, expect, test } from "vitest";
import { PerplexityMeter, planWindows } from "../../src/engine/perplexity.ts";

describe("planWindows", () => {
  test.each([
    [2, 2, 1],
    [100, 200, 100],
    [200, 200, 100],
    [201, 200, 100],
    [1000, 64, 63],
    [1000, 64, 1],
    [777, 50, 20],
  ])(
    "%i tokens in windows of %i, %i apart: each but the first is new once, with enough before it",
    (count, window, stride) => {
      const windows = planWindows(count, window, stride);
      const fresh = windows.flatMap(({ from, end }) => Array.from({ length: end - from }, (_, i) => from + i));
      expect(fresh).toEqual(Array.from({ length: count - 1 }, (_, i) => i + 1));
      for (const [i, { begin, end, from }] of windows.entries()) {
        expect(begin).toBe(i * stride);
        expect(end - begin).toBeLessThanOrEqual(window);
        expect(from - begin).toBe(i === 0 ? 1 : window - stride);
      }
    },
  );
});

describe("PerplexityMeter", () => {
  test("of probabilities 1/2 and 1/8 it is 4, their geometric mean", () => {
    const meter = new PerplexityMeter();
    meter.add([Math.log(1 / 2)]);
    meter.add(Float32Array.of(Math.log(1 / 8)));
    const result = meter.result();
    expect(result.tokens).toBe(2);
    expect(result.perplexity).toBeCloseTo(4, 6);
    // The spread of log 2 and log 8 is log 2; of the mean of two, log 2 / √2; exp multiplies it by 4.
    expect(result.standardError).toBeCloseTo((4 * Math.log(2)) / Math.SQRT2, 6);
  });

  test("a token that the model rules out makes it infinite, NaN cannot hide", () => {
    const [ruledOut, broken] = [new PerplexityMeter(), new PerplexityMeter()];
    ruledOut.add([-1, Number.NEGATIVE_INFINITY]);
    broken.add([-1, Number.NaN]);
    expect([ruledOut.result().perplexity, broken.result().perplexity]).toEqual([Number.POSITIVE_INFINITY, Number.NaN]);
  });
});
