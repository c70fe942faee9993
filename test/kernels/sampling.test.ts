import { describe, expect, test } from "vitest";
import { distribution, philox, pick } from "../reference/sampling.ts";

// The reference itself, on cases small enough to see through.
describe("sampling reference", () => {
  test("philox gives the known answers of Random123", () => {
    const hex = (words: number[]) => words.map((w) => w.toString(16));
    expect(hex(philox([0, 0, 0, 0], [0, 0]))).toEqual(["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]);
    const ones = 0xffffffff;
    expect(hex(philox([ones, ones, ones, ones], [ones, ones]))).toEqual([
      "408f276d",
      "41c83b0e",
      "a20bc7c6",
      "6d5451fd",
    ]);
  });

  const logits = Float64Array.from([0.1, 0.4, 0.2, 0.2, 0.1], Math.log);
  const all = { temperature: 1, topK: 0, topP: 1, minP: 0 };
  const kept = (f: Partial<typeof all>) =>
    Array.from(distribution(logits, { ...all, ...f }), (p) => Math.round(p * 1000));

  test("filters", () => {
    expect(kept({})).toEqual([100, 400, 200, 200, 100]);
    expect(kept({ topK: 1 })).toEqual([0, 1000, 0, 0, 0]);
    expect(kept({ topK: 2 })).toEqual([0, 500, 250, 250, 0]);
    expect(kept({ topP: 0.3 })).toEqual([0, 1000, 0, 0, 0]);
    expect(kept({ topP: 0.5 })).toEqual([0, 500, 250, 250, 0]);
    expect(kept({ topP: 0 })).toEqual([0, 1000, 0, 0, 0]);
    expect(kept({ minP: 0.45 })).toEqual([0, 500, 250, 250, 0]);
    expect(kept({ topK: 3, topP: 0.45 })).toEqual([0, 1000, 0, 0, 0]);
  });

  test("pick walks from the most probable token, equals by id", () => {
    const p = distribution(logits, all);
    expect([0, 0.39, 0.41, 0.61, 0.81, 0.91, 0.999].map((u) => pick(logits, p, u))).toEqual([1, 1, 2, 3, 0, 4, 4]);
  });
});
