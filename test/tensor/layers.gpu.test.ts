import { describe, expect, test } from "vitest";
import { bfloat16, float16, float32, int32, int64 } from "../../src/base/dtype.ts";
import type { Shape } from "../../src/base/shape.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { tidy } from "../../src/tensor/tidy.ts";
import { describeGpu, relativeL2, roundingTolerance } from "../support/gpu.ts";
import { element, layouts, numbers, operand, type Reference, reference, watchMemory } from "./reference.ts";

const floats = [float32, float16, bfloat16].map((dtype) => [dtype.name, dtype] as const);
const along: [Shape, number][] = [
  [[1], 0],
  [[7], -1],
  [[3, 5], 1],
  [[3, 5], 0],
  [[33, 130], -1],
  [[2, 3, 4], 1],
  [[2, 3, 2, 5], -4],
  [[2, 1, 2, 1, 2, 3], 2],
  [[2, 5000], 1],
];

/** Applies `f` to the values of every line along `dim`; its results, equally many each time, take the line's place. */
function mapLines(x: Reference, dim: number, f: (values: number[]) => number[]): Float64Array {
  const length = x.shape[dim]!;
  const inner = x.shape.slice(dim + 1).reduce((a, b) => a * b, 1);
  const outer = x.shape.slice(0, dim).reduce((a, b) => a * b, 1);
  const out: number[] = [];
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const results = f(Array.from({ length }, (_, k) => x.values[(o * length + k) * inner + i]!));
      results.forEach((value, k) => {
        out[(o * results.length + k) * inner + i] = value;
      });
    }
  }
  return Float64Array.from(out);
}

const first = (values: ArrayLike<number>) => {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
};

describeGpu("softmax, top-k, argmax, norm and embedding", (device) => {
  watchMemory(device);

  describe.each(floats)("%s", (_, dtype) => {
    test.each(along)("softmax of %j along %i", (shape, dim) => {
      const d = dim < 0 ? dim + shape.length : dim;
      for (const layout of layouts) {
        tidy(() => {
          const { x, ref } = operand(device, dtype, shape, layout, 1);
          const expected = mapLines(ref, d, (values) => {
            const largest = Math.max(...values);
            const sum = values.reduce((total, v) => total + Math.exp(v - largest), 0);
            return values.map((v) => Math.exp(v - largest) / sum);
          });
          const out = x.softmax(dim);
          expect(out.shape).toEqual(shape);
          expect(relativeL2(numbers(out), expected)).toBeLessThan(roundingTolerance(dtype, 2));
        });
      }
    });

    test.each(along)("argmax of %j along %i gives the first of the largest", (shape, dim) => {
      const d = dim < 0 ? dim + shape.length : dim;
      for (const layout of layouts) {
        tidy(() => {
          const { x, ref } = operand(device, dtype, shape, layout, 2);
          const out = x.argmax(dim);
          expect(out.dtype).toBe(int32);
          expect(out.shape).toEqual(shape.toSpliced(d, 1));
          expect(numbers(out)).toEqual(mapLines(ref, d, (values) => [first(values)]));
          expect(x.argmax(dim, true).shape).toEqual(shape.with(d, 1));
          expect(x.argmax().item()).toBe(first(ref.values));
        });
      }
    });

    test.each(along)("topk of %j along %i, largest first", (shape, dim) => {
      const d = dim < 0 ? dim + shape.length : dim;
      const k = Math.min(shape[d]!, 5);
      for (const layout of layouts) {
        tidy(() => {
          const { x, ref } = operand(device, dtype, shape, layout, 3);
          const { values, indices: places } = x.topk(k, dim);
          expect(values.shape).toEqual(shape.with(d, k));
          const at = (which: 0 | 1) =>
            mapLines(ref, d, (line) => {
              const ranked = line.map((v, i) => [v, i] as const).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
              return ranked.slice(0, k).map((pair) => pair[which]);
            });
          // As numbers: -0 and 0 are equal here, as they are to the kernel.
          expect([...numbers(values)].map((v) => v + 0)).toEqual([...at(0)].map((v) => v + 0));
          expect(numbers(places)).toEqual(at(1));
        });
      }
    });

    test("rmsNorm of shapes and layouts", () => {
      for (const shape of [[1], [5], [3, 7], [2, 3, 64], [4, 257], [2, 4096], [2, 0], [0, 8]]) {
        for (const layout of layouts) {
          tidy(() => {
            const { x, ref } = operand(device, dtype, shape, layout, 4);
            const weight = operand(device, dtype, [shape.at(-1)!], layout, 5);
            const expected = mapLines(ref, shape.length - 1, (values) => {
              const mean = values.reduce((total, v) => total + v * v, 0) / values.length;
              return values.map((v, i) => (v / Math.sqrt(mean + 1e-5)) * weight.ref.values[i]!);
            });
            const out = x.rmsNorm(weight.x, 1e-5);
            expect(out.shape).toEqual(shape);
            expect(relativeL2(numbers(out), expected)).toBeLessThan(roundingTolerance(dtype, 2));
          });
        }
      }
    });

    test("embedding copies rows, for ids of any shape", () => {
      for (const [layout, idType] of [
        ["contiguous", int32],
        ["transposed", int64],
        ["wide", int32],
      ] as const) {
        tidy(() => {
          const table = operand(device, dtype, [13, 10], layout, 6);
          const ids = [0, 12, 5, 5, 1, 7];
          const x = Tensor.from(ids, { shape: [2, 3], dtype: idType, device });
          const out = table.x.embedding(x);
          expect(out.shape).toEqual([2, 3, 10]);
          const expected = reference([2, 3, 10], ([i, j, c]) => element(table.ref, [ids[i! * 3 + j!]!, c!]));
          expect(numbers(out)).toEqual(expected.values);
          expect(numbers(table.x.embedding(x.transpose(0, 1)).select(0, 1))).toEqual(
            Float64Array.from([12, 1].flatMap((id) => [...table.ref.values.slice(10 * id, 10 * id + 10)])),
          );
        });
      }
    });
  });

  test("empty tensors and rank 0", () => {
    tidy(() => {
      expect(Tensor.empty([0, 3], { device }).softmax().shape).toEqual([0, 3]);
      expect(Tensor.empty([3, 0], { device }).softmax().shape).toEqual([3, 0]);
      expect(Tensor.from(3, { device }).softmax().item()).toBe(1);
      expect(Tensor.from(3, { device }).argmax(0).item()).toBe(0);
      expect(Tensor.empty([0, 3], { device }).argmax(1).shape).toEqual([0]);
      const none = Tensor.empty([2, 3], { device }).topk(0);
      expect(none.values.shape).toEqual([2, 0]);
      const one = Tensor.from(3, { device }).topk(1, 0);
      expect(one.values.item()).toBe(3);
      expect(Tensor.ones([4, 2], { device }).embedding(Tensor.empty([0], { dtype: "int32", device })).shape).toEqual([
        0, 2,
      ]);
    });
  });

  test("an id outside the table gives a row of NaN", () => {
    tidy(() => {
      const out = Tensor.ones([3, 2], { device }).embedding(Tensor.from(Int32Array.of(-1, 2, 3), { device }));
      expect(out.toNested()).toEqual([
        [Number.NaN, Number.NaN],
        [1, 1],
        [Number.NaN, Number.NaN],
      ]);
    });
  });
});
