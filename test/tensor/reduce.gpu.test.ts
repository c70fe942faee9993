import { describe, expect, test } from "vitest";
import { bfloat16, bool, float16, float32, int32, int64, uint8 } from "../../src/base/dtype.ts";
import type { Shape } from "../../src/base/shape.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { tidy } from "../../src/tensor/tidy.ts";
import { describeGpu, relativeL2, roundingTolerance } from "../support/gpu.ts";
import { indices, layouts, numbers, operand, type Reference, watchMemory } from "./reference.ts";

const ops = {
  sum: (v: number[]) => v.reduce((a, b) => a + b, 0),
  mean: (v: number[]) => v.reduce((a, b) => a + b, 0) / v.length,
  max: (v: number[]) => v.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY),
  min: (v: number[]) => v.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY),
} as const;
const names = Object.keys(ops) as (keyof typeof ops)[];

const cases: [Shape, number[] | undefined][] = [
  [[], undefined],
  [[1], undefined],
  [[7], [0]],
  [[3, 5], [1]],
  [[3, 5], [0]],
  [[3, 5], undefined],
  [[65, 129], [1]],
  [[65, 129], [0]],
  [
    [2, 3, 4],
    [0, 2],
  ],
  [[2, 3, 4], [1]],
  [
    [2, 3, 4],
    [-1, -2],
  ],
  [
    [2, 1, 3, 2, 5],
    [0, 3],
  ],
  [
    [2, 3, 2, 3, 2, 3],
    [0, 2, 4],
  ],
  [[40_001], undefined],
  [[3, 20_000], [1]],
];

/** The elements that each output is made of, in row-major order of the outputs. */
function groups(x: Reference, dims: number[] | undefined): number[][] {
  const reduced = (dims ?? x.shape.map((_, i) => i)).map((d) => (d < 0 ? d + x.shape.length : d));
  const byOutput = new Map<string, number[]>();
  for (const index of indices(x.shape.map((n, i) => (reduced.includes(i) ? 1 : n)))) byOutput.set(index.join(), []);
  indices(x.shape).forEach((index, at) => {
    byOutput.get(index.map((i, d) => (reduced.includes(d) ? 0 : i)).join())?.push(x.values[at]!);
  });
  return [...byOutput.values()];
}

describeGpu("reductions", (device) => {
  watchMemory(device);

  describe.each([float32, float16, bfloat16].map((dtype) => [dtype.name, dtype] as const))("%s", (_, dtype) => {
    test.each(cases)("%j over %j", (shape, dims) => {
      for (const layout of layouts) {
        tidy(() => {
          const { x, ref } = operand(device, dtype, shape, layout, 1);
          const parts = groups(ref, dims);
          // Cancellation in sums is measured against the terms. A term far above the rest passes its rounding on to every
          // later addition of its lane, up to some 80 of them: 2^-24 times 64.
          const scale = Math.hypot(...parts.map((v) => Math.hypot(...v)));
          for (const op of names) {
            const out = x[op](dims);
            const reduced = dims ?? shape.map((_, i) => i);
            expect(out.rank).toBe(shape.length - reduced.length);
            const expected = Float64Array.from(parts, ops[op]);
            const actual = numbers(out);
            const error = Math.hypot(...expected.map((e, i) => e - actual[i]!));
            const norm = Math.hypot(...expected);
            expect(error).toBeLessThanOrEqual(roundingTolerance(dtype) * norm + 2 ** -18 * scale);
            expect(x[op](dims, true).shape).toEqual(shape.map((n, i) => (isIn(reduced, i, shape.length) ? 1 : n)));
          }
        });
      }
    });
  });

  function isIn(dims: readonly number[], i: number, rank: number): boolean {
    return dims.includes(i) || dims.includes(i - rank);
  }

  test("whole numbers: sums are int64 and exact, extremes keep the dtype, means are float32", () => {
    for (const dtype of [int32, int64, uint8, bool]) {
      for (const layout of layouts) {
        tidy(() => {
          const { x, ref } = operand(device, dtype, [6, 11], layout, 2);
          const parts = groups(ref, [1]);
          expect(x.sum(1).dtype).toBe(int64);
          expect(numbers(x.sum(1))).toEqual(Float64Array.from(parts, ops.sum));
          for (const op of ["max", "min"] as const) {
            expect(x[op](1).dtype).toBe(dtype);
            expect(numbers(x[op](1))).toEqual(Float64Array.from(parts, ops[op]));
          }
          expect(x.mean(1).dtype).toBe(float32);
          expect(relativeL2(numbers(x.mean(1)), Float64Array.from(parts, ops.mean))).toBeLessThan(2 ** -20);
        });
      }
    }
  });

  test("nothing to add: sums are 0, means NaN; no outputs: nothing", () => {
    tidy(() => {
      const x = Tensor.empty([3, 0], { device });
      expect(x.sum(1).toNested()).toEqual([0, 0, 0]);
      expect(x.mean(1).toNested()).toEqual([Number.NaN, Number.NaN, Number.NaN]);
      expect(x.sum().item()).toBe(0);
      expect(x.sum(0).shape).toEqual([0]);
      expect(x.max(0).shape).toEqual([0]);
      expect(Tensor.empty([0], { dtype: "int32", device }).sum().item()).toBe(0);
    });
  });

  test("no dimension named reduces none", () => {
    tidy(() => {
      const x = Tensor.from([1, 2, 3], { device });
      expect(x.sum([]).toNested()).toEqual([1, 2, 3]);
      expect(Tensor.from(5, { device }).sum(-1).item()).toBe(5);
    });
  });

  test("NaN shows in every reduction", () => {
    tidy(() => {
      const x = Tensor.from([1, Number.NaN, Number.POSITIVE_INFINITY], { device });
      for (const op of names) expect(x[op]().item()).toBe(Number.NaN);
    });
  });
});
