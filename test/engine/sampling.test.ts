import { describe, expect, test } from "vitest";
import { ArgumentError } from "../../src/base/errors.ts";
import { samplingParameters } from "../../src/engine/sampling.ts";

describe("samplingParameters", () => {
  test.each([
    [{ temperature: Number.NaN }, "temperature"],
    [{ temperature: -1 }, "temperature"],
    [{ temperature: Number.POSITIVE_INFINITY }, "temperature"],
    [{ topK: -1 }, "topK"],
    [{ topK: 1.5 }, "topK"],
    [{ topP: 0 }, "topP"],
    [{ topP: 1.01 }, "topP"],
    [{ minP: -0.1 }, "minP"],
    [{ minP: Number.NaN }, "minP"],
    [{ repetitionPenalty: 0 }, "repetitionPenalty"],
    [{ seed: 0.5 }, "seed"],
  ])("refuses %j by name", (options, name) => {
    expect(() => samplingParameters(options)).toThrow(ArgumentError);
    expect(() => samplingParameters(options)).toThrow(name);
  });

  test("takes the caller's values, then the defaults, then what changes nothing", () => {
    const p = samplingParameters({ temperature: 0.5, seed: 7 }, { temperature: 1, topP: 0.9 });
    expect(p).toEqual({ temperature: 0.5, topK: 0, topP: 0.9, minP: 0, repetitionPenalty: 1, seed: 7n });
  });

  test("keeps 64 bits of a seed, and draws one when there is none", () => {
    expect(samplingParameters({ seed: -1n }).seed).toBe(2n ** 64n - 1n);
    expect(samplingParameters({ seed: -1 }).seed).toBe(2n ** 64n - 1n);
    const drawn = [1, 2, 3].map(() => samplingParameters({}).seed);
    expect(new Set(drawn).size).toBe(3);
  });
});
