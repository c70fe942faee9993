import { expect, test } from "vitest";
import { contiguousStrides } from "../../src/base/shape.ts";
import { checkRank, coalesce, inUnits, isFlat, unitWidth } from "../../src/kernels/layout.ts";
import { random } from "../support/numerics.ts";

/** Every element's offset in each operand, in row-major order. */
function walk(shape: readonly number[], strides: readonly (readonly number[])[]): number[][] {
  let offsets = [strides.map(() => 0)];
  shape.forEach((size, d) => {
    offsets = offsets.flatMap((base) =>
      Array.from({ length: size }, (_, i) => base.map((at, k) => at + i * strides[k]![d]!)),
    );
  });
  return offsets;
}

test("contiguous dimensions merge into one", () => {
  const shape = [2, 3, 4];
  expect(coalesce(shape, [contiguousStrides(shape), contiguousStrides(shape)])).toEqual({
    shape: [24],
    strides: [[1], [1]],
  });
});

test("a row broadcast keeps two dimensions, a broadcast over several rows too", () => {
  expect(
    coalesce(
      [2, 3, 4],
      [
        [12, 4, 1],
        [0, 0, 1],
      ],
    ),
  ).toEqual({
    shape: [6, 4],
    strides: [
      [4, 1],
      [0, 1],
    ],
  });
});

test("sizes of one go, whatever their stride; a single element keeps one dimension", () => {
  expect(coalesce([1, 5, 1], [[99, 2, -7]])).toEqual({ shape: [5], strides: [[2]] });
  expect(coalesce([], [[], []])).toEqual({ shape: [1], strides: [[1], [1]] });
  expect(coalesce([1, 1], [[5, 5]])).toEqual({ shape: [1], strides: [[1]] });
});

test("merging never changes the order of elements", () => {
  const next = random(7);
  const pick = (n: number): number => Math.floor(next() * n);
  for (let round = 0; round < 300; round++) {
    const shape = Array.from({ length: pick(6) }, () => 1 + pick(4));
    const strides = Array.from({ length: 2 }, () => {
      const order = shape.map((_, d) => d);
      if (pick(2)) order.sort(() => next() - 0.5);
      const contiguous = contiguousStrides(order.map((d) => shape[d]!));
      const out = shape.map((_, d) => contiguous[order.indexOf(d)]! * (1 + pick(2)));
      return pick(3) === 0 ? out.map((s) => (pick(2) ? 0 : s)) : out;
    });
    const merged = coalesce(shape, strides);
    expect(walk(merged.shape, merged.strides)).toEqual(walk(shape, strides));
    for (let d = 1; d < merged.shape.length; d++) {
      const mergeable = merged.strides.every((s) => s[d - 1] === s[d]! * merged.shape[d]!);
      expect(mergeable).toBe(false);
    }
  }
});

test("flat means one run of memory for every operand", () => {
  expect(
    isFlat(
      coalesce(
        [4, 4],
        [
          [4, 1],
          [4, 1],
        ],
      ),
    ),
  ).toBe(true);
  expect(
    isFlat(
      coalesce(
        [4, 4],
        [
          [4, 1],
          [1, 4],
        ],
      ),
    ),
  ).toBe(false);
  expect(isFlat(coalesce([8], [[1], [2]]))).toBe(false);
  expect(isFlat(coalesce([1], [[3], [5]]))).toBe(true);
});

test("units need sizes, strides and addresses that are multiples of them", () => {
  const layout = coalesce(
    [6, 8],
    [
      [8, 1],
      [24, 1],
    ],
  );
  expect(unitWidth(layout, [0, 0], [8, 4, 2, 1])).toBe(8);
  expect(unitWidth(layout, [0, 4], [8, 4, 2, 1])).toBe(4);
  expect(unitWidth(layout, [0, 3], [8, 4, 2, 1])).toBe(1);
  expect(
    unitWidth(
      coalesce(
        [6, 8],
        [
          [8, 1],
          [18, 1],
        ],
      ),
      [0, 0],
      [8, 4, 2, 1],
    ),
  ).toBe(2);
  expect(
    unitWidth(
      coalesce(
        [6, 5],
        [
          [8, 1],
          [16, 1],
        ],
      ),
      [0, 0],
      [8, 4, 2, 1],
    ),
  ).toBe(1);
  expect(
    unitWidth(
      coalesce(
        [6, 8],
        [
          [8, 1],
          [1, 0],
        ],
      ),
      [0, 3],
      [8, 1],
    ),
  ).toBe(8);
});

test("a layout in units reaches the first element of each unit", () => {
  const layout = coalesce(
    [3, 8],
    [
      [8, 1],
      [24, 1],
    ],
  );
  const starts = walk(layout.shape, layout.strides).filter((_, i) => i % 4 === 0);
  const units = inUnits(layout, 4, false);
  expect(walk(units.shape, units.strides)).toEqual(starts);
  const scaled = inUnits(layout, 4, true);
  expect(walk(scaled.shape, scaled.strides)).toEqual(starts.map((at) => at.map((o) => o / 4)));
});

test("more dimensions than a kernel takes are refused", () => {
  const shape = new Array<number>(9).fill(2);
  const reversed = [...contiguousStrides(shape)].reverse();
  expect(() => checkRank("copy", coalesce(shape, [contiguousStrides(shape), reversed]))).toThrow(
    /copy: the view has 9/,
  );
});
