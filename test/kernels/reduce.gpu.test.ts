import { expect, test } from "vitest";
import { bfloat16, float16, float32, int32, int64 } from "../../src/base/dtype.ts";
import { decodeArray } from "../../src/base/element.ts";
import { contiguousStrides, elementCount } from "../../src/base/shape.ts";
import { type ReduceArgs, type ReduceOp, reduce, reduceWorkspaceBytes } from "../../src/kernels/reduce/reduce.ts";
import { allocate, describeGpu, output, randomArray, roundingTolerance, upload } from "../support/gpu.ts";

const combine: Record<ReduceOp, (a: number, b: number) => number> = {
  sum: (a, b) => a + b,
  mean: (a, b) => a + b,
  max: Math.max,
  min: Math.min,
};
const start: Record<ReduceOp, number> = { sum: 0, mean: 0, max: -Infinity, min: Infinity };

/** The reduction in float64, over the kept dimensions in their order. */
function reference(x: Float64Array, p: Pick<ReduceArgs, "op" | "shape" | "strides" | "dims">): Float64Array {
  const keptShape = p.shape.filter((_, d) => !p.dims.includes(d));
  const keptSteps = contiguousStrides(keptShape);
  const out = new Float64Array(elementCount(keptShape)).fill(start[p.op]);
  const steps = contiguousStrides(p.shape);
  const total = elementCount(p.shape);
  for (let flat = 0; flat < total; flat++) {
    let from = 0;
    let to = 0;
    let kept = 0;
    for (let d = 0; d < p.shape.length; d++) {
      const at = Math.floor(flat / steps[d]!) % p.shape[d]!;
      from += at * p.strides[d]!;
      if (!p.dims.includes(d)) to += at * keptSteps[kept++]!;
    }
    out[to] = combine[p.op](out[to]!, x[from]!);
  }
  return p.op === "mean" ? out.map((v) => v / (total / out.length)) : out;
}

const cases: [string, { shape: number[]; dims: number[]; strides?: number[] }][] = [
  ["one element", { shape: [1], dims: [0] }],
  ["rows", { shape: [37, 129], dims: [1] }],
  ["aligned rows", { shape: [9, 512], dims: [1] }],
  ["short rows", { shape: [301, 3], dims: [1] }],
  ["columns", { shape: [129, 37], dims: [0] }],
  ["a middle dimension", { shape: [5, 70, 33], dims: [1] }],
  ["first and last", { shape: [6, 50, 7], dims: [0, 2] }],
  ["everything", { shape: [13, 17, 19], dims: [0, 1, 2] }],
  ["everything, in several chunks", { shape: [100_003], dims: [0] }],
  ["long rows, in several chunks", { shape: [3, 40_000], dims: [1] }],
  ["long columns, in several chunks", { shape: [40_001, 3], dims: [0] }],
  ["a transposed view", { shape: [40, 60], dims: [1], strides: [1, 40] }],
];

describeGpu("reduce", (device) => {
  for (const dtype of [float32, float16, bfloat16]) {
    for (const op of ["sum", "mean", "max", "min"] as const) {
      test.each(cases)(`${op} ${dtype.name}: %s`, (_, { shape, dims, strides = contiguousStrides(shape) }) => {
        const x = randomArray(dtype, elementCount(shape), 21);
        const count = elementCount(shape.filter((__, d) => !dims.includes(d)));
        const view = { op, shape, strides, dims };
        const workspace = allocate(device, reduceWorkspaceBytes({ shape, dims, dtype }));
        const pointer = upload(device, x);
        const out = output(device, dtype, count);
        reduce(device.stream, { ...view, out: out.ptr, outDType: dtype, x: pointer, dtype, workspace });
        const wide = output(device, float32, count);
        reduce(device.stream, { ...view, out: wide.ptr, outDType: float32, x: pointer, dtype, workspace });
        const expected = reference(decodeArray(dtype, x), view);
        // Sums of numbers of both signs cancel: the error is measured against the sum of magnitudes, which grows as the
        // rounding of the partial sums does. Largest and least elements are exact.
        const magnitude =
          op === "sum" || op === "mean" ? reference(decodeArray(dtype, x).map(Math.abs), view) : expected;
        const scale = norm(magnitude) || 1;
        expect(distance(wide.numbers(), expected) / scale).toBeLessThan(2 ** -20);
        expect(distance(out.numbers(), expected) / scale).toBeLessThan(roundingTolerance(dtype));
      });
    }
  }

  for (const dtype of [int32, int64]) {
    test.each(["sum", "max", "min"] as const)(`%s ${dtype.name} is exact`, (op) => {
      for (const [, { shape, dims, strides = contiguousStrides(shape) }] of cases) {
        const x = randomArray(dtype, elementCount(shape), 5);
        const view = { op, shape, strides, dims };
        const out = output(device, int64, elementCount(shape.filter((_, d) => !dims.includes(d))));
        const workspace = allocate(device, reduceWorkspaceBytes({ shape, dims, dtype }));
        reduce(device.stream, { ...view, out: out.ptr, outDType: int64, x: upload(device, x), dtype, workspace });
        expect([...out.numbers()]).toEqual([...reference(decodeArray(dtype, x), view)].map((v) => v + 0));
      }
    });
  }

  test("a sum of int64 beyond 2^53 keeps every bit", () => {
    const x = BigInt64Array.from({ length: 1000 }, (_, i) => 2n ** 52n - BigInt(i * i));
    const out = output(device, int64, 1);
    const view = { op: "sum" as const, shape: [1000], strides: [1], dims: [0], workspace: out.ptr };
    reduce(device.stream, { ...view, out: out.ptr, outDType: int64, x: upload(device, x), dtype: int64 });
    expect(out.stored()[0]).toBe(x.reduce((a, b) => a + b));
  });

  test("NaN anywhere is found", () => {
    for (const at of [0, 1, 500, 999]) {
      const x = new Float32Array(1000).fill(1);
      x[at] = Number.NaN;
      for (const op of ["sum", "max", "min"] as const) {
        const out = output(device, float32, 1);
        const view = { op, shape: [1000], strides: [1], dims: [0], workspace: out.ptr };
        reduce(device.stream, { ...view, out: out.ptr, outDType: float32, x: upload(device, x), dtype: float32 });
        expect(out.stored()[0]).toBe(Number.NaN);
      }
    }
  });

  test("a row gives the same bits alone and among others", () => {
    const x = randomArray(float32, 64 * 5000, 8) as Float32Array;
    const sum = (rows: number, data: Float32Array) => {
      const out = output(device, float32, rows);
      const view = { op: "sum" as const, shape: [rows, 5000], strides: [5000, 1], dims: [1], workspace: out.ptr };
      reduce(device.stream, { ...view, out: out.ptr, outDType: float32, x: upload(device, data), dtype: float32 });
      return out.stored();
    };
    expect(sum(1, x.slice(31 * 5000, 32 * 5000))[0]).toBe(sum(64, x)[31]);
  });

  test("an empty reduction gives zero", () => {
    const out = output(device, float32, 3);
    const view = { op: "sum" as const, shape: [3, 0], strides: [1, 1], dims: [1], workspace: out.ptr };
    reduce(device.stream, { ...view, out: out.ptr, outDType: float32, x: out.ptr, dtype: float32 });
    expect([...out.stored()]).toEqual([0, 0, 0]);
  });
});

function norm(values: Float64Array): number {
  return Math.sqrt(values.reduce((n, v) => n + v * v, 0));
}

function distance(a: Float64Array, b: Float64Array): number {
  return norm(a.map((v, i) => v - b[i]!));
}
