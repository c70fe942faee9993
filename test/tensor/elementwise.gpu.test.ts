import { describe, expect, test } from "vitest";
import { bfloat16, bool, type DType, float16, float32, int32, int64, uint8 } from "../../src/base/dtype.ts";
import { broadcastShapes, type Shape } from "../../src/base/shape.ts";
import type { UnaryOp } from "../../src/tensor/ops/elementwise.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { tidy } from "../../src/tensor/tidy.ts";
import { describeGpu, relativeL2, roundingTolerance } from "../support/gpu.ts";
import { element, erf, type LayoutName, layouts, numbers, operand, reference, watchMemory } from "./reference.ts";

const floats = [float32, float16, bfloat16];
const shapes: Shape[] = [
  [],
  [1],
  [0],
  [7],
  [3, 5],
  [257, 33],
  [2, 3, 4],
  [1, 2, 0, 3],
  [2, 1, 3, 2],
  [2, 2, 1, 3, 2],
  [2, 1, 2, 1, 2, 3],
  [100_003],
];
/** Operands that broadcast against each other, up to rank 6. */
const pairs: [Shape, Shape][] = [
  ...shapes.map((shape): [Shape, Shape] => [shape, shape]),
  [[3, 5], [5]],
  [
    [3, 5],
    [3, 1],
  ],
  [
    [4, 1, 6],
    [5, 1],
  ],
  [[64, 128], [128]],
  [[], [2, 3]],
  [
    [2, 1, 3, 1, 2, 1],
    [1, 2, 1, 3, 1, 4],
  ],
  [
    [1, 0],
    [3, 1],
  ],
];
const binaryOps = {
  add: (a: number, b: number) => a + b,
  sub: (a: number, b: number) => a - b,
  mul: (a: number, b: number) => a * b,
  div: (a: number, b: number) => a / b,
  maximum: (a: number, b: number) => Math.max(a, b),
  minimum: (a: number, b: number) => Math.min(a, b),
} as const;
type BinaryName = keyof typeof binaryOps;
const binaryNames = Object.keys(binaryOps) as BinaryName[];

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const unaryOps: Partial<Record<UnaryOp, (x: number) => number>> = {
  neg: (x) => -x,
  abs: Math.abs,
  relu: (x) => Math.max(x, 0),
  exp: Math.exp,
  log: Math.log,
  sqrt: Math.sqrt,
  rsqrt: (x) => 1 / Math.sqrt(x),
  reciprocal: (x) => 1 / x,
  tanh: Math.tanh,
  sigmoid,
  silu: (x) => x * sigmoid(x),
};

describeGpu("elementwise operations", (device) => {
  watchMemory(device);

  function checkBinary(op: BinaryName, dtype: DType, a: Shape, b: Shape, la: LayoutName, lb: LayoutName): void {
    tidy(() => {
      const left = operand(device, dtype, a, la, 1);
      const right = operand(device, dtype, b, lb, 2);
      const out = left.x[op](right.x);
      const shape = broadcastShapes(op, a, b);
      const expected = reference(shape, (i) => binaryOps[op](element(left.ref, i), element(right.ref, i)));
      expect(out.shape).toEqual(shape);
      expect(out.dtype).toBe(dtype);
      // One rounding of a float32 result.
      expect(relativeL2(numbers(out), rounded(dtype, expected.values))).toBeLessThan(roundingTolerance(dtype));
    });
  }

  /** Infinity where the dtype overflows, so that references of quotients by tiny numbers compare. */
  function rounded(dtype: DType, values: Float64Array): Float64Array {
    const largest = dtype === float16 ? 65520 : 3.4e38;
    return values.map((v) => (Math.abs(v) >= largest ? Math.sign(v) * Number.POSITIVE_INFINITY : v));
  }

  describe.each(floats.map((dtype) => [dtype.name, dtype] as const))("%s", (_, dtype) => {
    test.each(pairs)("every operation on %j and %j", (a, b) => {
      for (const op of binaryNames) checkBinary(op, dtype, a, b, "contiguous", "contiguous");
    });

    test.each(layouts)("operands that lie %s", (layout) => {
      for (const shape of [[7], [5, 6], [33, 64], [2, 3, 4, 5]]) {
        checkBinary("add", dtype, shape, shape, layout, "contiguous");
        checkBinary("sub", dtype, shape, shape, "contiguous", layout);
        checkBinary("mul", dtype, shape, shape, layout, layout);
      }
    });

    test("numbers as the second operand", () => {
      for (const layout of layouts) {
        tidy(() => {
          const { x, ref } = operand(device, dtype, [9, 11], layout, 3);
          const cases: [Tensor, (v: number) => number][] = [
            [x.add(1.5), (v) => v + 1.5],
            [x.sub(0.25), (v) => v - 0.25],
            [x.mul(-3), (v) => v * -3],
            [x.div(7), (v) => v / 7],
            [x.maximum(0.1), (v) => Math.max(v, Math.fround(0.1))],
            [x.minimum(-1), (v) => Math.min(v, -1)],
          ];
          for (const [out, f] of cases) {
            expect(out.dtype).toBe(dtype);
            expect(relativeL2(numbers(out), ref.values.map(f))).toBeLessThan(roundingTolerance(dtype));
          }
        });
      }
    });

    test.each(shapes)("unary functions on a shape, %j", (...shape) => {
      tidy(() => {
        const { x, ref } = operand(device, dtype, shape, "contiguous", 4);
        for (const [op, f] of Object.entries(unaryOps)) {
          const out = x[op as "neg"]();
          expect(out.shape).toEqual(shape);
          const expected = rounded(dtype, ref.values.map(f));
          expect(relativeL2(numbers(out), expected)).toBeLessThan(roundingTolerance(dtype, 2));
        }
      });
    });

    test.each(layouts)("gelu, exact and by tanh, of an operand that lies %s", (layout) => {
      tidy(() => {
        const { x, ref } = operand(device, dtype, [13, 31], layout, 5);
        const exact = ref.values.map((v) => 0.5 * v * (1 + erf(v / Math.SQRT2)));
        const byTanh = ref.values.map(
          (v) => 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3))),
        );
        expect(relativeL2(numbers(x.gelu()), exact)).toBeLessThan(roundingTolerance(dtype, 2));
        expect(relativeL2(numbers(x.gelu("tanh")), byTanh)).toBeLessThan(roundingTolerance(dtype, 2));
      });
    });

    test.each(layouts)("in place on a tensor that lies %s", (layout) => {
      tidy(() => {
        const { x, ref } = operand(device, dtype, [6, 10], layout, 6);
        const other = operand(device, dtype, [10], "contiguous", 7);
        const view = x.alias(x);
        expect(x.add_(other.x)).toBe(x);
        x.mul_(2).sub_(1);
        const step = (v: number) => rounding(dtype, v);
        const expected = reference([6, 10], (i) => {
          const sum = step(element(ref, i) + element(other.ref, i));
          return step(step(sum * 2) - 1);
        });
        expect(relativeL2(numbers(view), expected.values)).toBeLessThan(roundingTolerance(dtype, 3));
        x.neg_();
        expect(
          relativeL2(
            numbers(view),
            expected.values.map((v) => -v),
          ),
        ).toBeLessThan(roundingTolerance(dtype, 3));
      });
    });
  });

  /** Intermediate results are rounded to the dtype; here float32 is near enough, the tolerance has a step for each. */
  function rounding(_dtype: DType, value: number): number {
    return Math.fround(value);
  }

  test.each([int32, int64, uint8].map((dtype) => [dtype.name, dtype] as const))(
    "whole numbers exactly, %s",
    (_, dtype) => {
      for (const layout of layouts) {
        tidy(() => {
          const a = operand(device, dtype, [5, 7], layout, 8);
          const b = operand(device, dtype, [7], "contiguous", 9);
          const wrap = (v: number) => (dtype === uint8 ? v & 255 : v + 0); // integers have no -0
          for (const op of ["add", "sub", "mul", "maximum", "minimum"] as const) {
            const out = a.x[op](b.x);
            expect(out.dtype).toBe(dtype);
            const expected = reference([5, 7], (i) => wrap(binaryOps[op](element(a.ref, i), element(b.ref, i))));
            expect(numbers(out)).toEqual(expected.values);
          }
          expect(numbers(a.x.add(3))).toEqual(a.ref.values.map((v) => wrap(v + 3)));
          expect(a.x.mul(0.5).dtype).toBe(float32);
          expect(numbers(a.x.mul(0.5))).toEqual(a.ref.values.map((v) => v * 0.5));
        });
      }
    },
  );

  test("division of whole numbers gives float32", () => {
    tidy(() => {
      const x = Tensor.from(Int32Array.of(7, -7, 0), { device });
      const out = x.div(Tensor.from(Int32Array.of(2, 2, 5), { device }));
      expect(out.dtype).toBe(float32);
      expect(out.toNested()).toEqual([3.5, -3.5, 0]);
      expect(x.div(4).toNested()).toEqual([1.75, -1.75, 0]);
    });
  });

  test("two dtypes are promoted", () => {
    const cases: [DType, DType, DType][] = [
      [float16, bfloat16, float32],
      [float16, float32, float32],
      [int32, bfloat16, bfloat16],
      [int32, int64, int64],
      [uint8, int32, int32],
      [bool, int32, int32],
      [bool, float16, float16],
    ];
    for (const [a, b, expected] of cases) {
      tidy(() => {
        const x = operand(device, a, [4, 5], "transposed", 10);
        const y = operand(device, b, [5], "contiguous", 11);
        const out = x.x.add(y.x);
        expect(out.dtype).toBe(expected);
        const sum = reference([4, 5], (i) => element(x.ref, i) + element(y.ref, i));
        expect(relativeL2(numbers(out), sum.values)).toBeLessThan(roundingTolerance(expected, 2) || 1e-12);
      });
    }
  });

  test("NaN goes through, and maximum and minimum give it", () => {
    tidy(() => {
      const x = Tensor.from([Number.NaN, 1, Number.NEGATIVE_INFINITY], { device });
      const y = Tensor.from([0, Number.NaN, 2], { device });
      expect(x.add(y).toNested()).toEqual([Number.NaN, Number.NaN, Number.NEGATIVE_INFINITY]);
      expect(x.maximum(y).toNested()).toEqual([Number.NaN, Number.NaN, 2]);
      expect(y.minimum(x).toNested()).toEqual([Number.NaN, Number.NaN, Number.NEGATIVE_INFINITY]);
    });
  });

  test("a tensor and another view of its own memory", () => {
    tidy(() => {
      const x = Tensor.from([1, 2, 3, 4, 5, 6, 7, 8, 9], { shape: [3, 3], device });
      x.add_(x.transpose(0, 1));
      expect(x.toNested()).toEqual([
        [2, 6, 10],
        [6, 10, 14],
        [10, 14, 18],
      ]);
      x.add_(x);
      expect(x.select(0, 0).toNested()).toEqual([4, 12, 20]);
      x.sub_(x.select(0, 0));
      expect(x.select(0, 0).toNested()).toEqual([0, 0, 0]);
      expect(x.select(0, 1).toNested()).toEqual([8, 8, 8]);
    });
  });

  test("a repeated operand, and an expanded result that is made solid", () => {
    tidy(() => {
      const x = Tensor.from([1, 2, 3], { device }).unsqueeze(1).expand(3, 4);
      expect(x.add(x).toNested()).toEqual([1, 2, 3].map((v) => Array(4).fill(2 * v)));
      expect(x.mul(2).neg().isContiguous).toBe(true);
    });
  });
});
