import { expect, test } from "vitest";
import { bfloat16, float16, float32, int32, int64 } from "../../src/base/dtype.ts";
import { decodeArray, encodeArray } from "../../src/base/element.ts";
import { contiguousStrides, elementCount } from "../../src/base/shape.ts";
import { type BinaryOp, binary, binaryScalar, type UnaryOp, unary } from "../../src/kernels/elementwise/elementwise.ts";
import { describeGpu, output, randomArray, relativeL2, roundingTolerance, upload } from "../support/gpu.ts";

const binaryReference: Record<BinaryOp, (x: number, y: number) => number> = {
  add: (x, y) => x + y,
  sub: (x, y) => x - y,
  mul: (x, y) => x * y,
  div: (x, y) => x / y,
  min: Math.min,
  max: Math.max,
  rsub: (x, y) => y - x,
  rdiv: (x, y) => y / x,
  softcap: (x, y) => y * Math.tanh(x / y),
};
const ops = Object.keys(binaryReference) as BinaryOp[];
const floats = [float32, float16, bfloat16];

/** Division results beyond the type's range are infinite on both sides; the measure handles those. */
function rounded(dtype: (typeof floats)[number], values: Float64Array): Float64Array {
  const limit = dtype === float16 ? 65520 : 3.4028235e38;
  return values.map((v) => (Math.abs(v) >= limit ? Math.sign(v) * Number.POSITIVE_INFINITY : v));
}

const shapes: [string, number[], number[], number[]][] = [
  ["one element", [1], [1], [1]],
  ["contiguous, odd", [7, 13, 11], [143, 11, 1], [143, 11, 1]],
  ["contiguous, aligned", [64, 256], [256, 1], [256, 1]],
  ["a row broadcast", [33, 64], [64, 1], [0, 1]],
  ["an odd row broadcast", [33, 31], [31, 1], [0, 1]],
  ["a column broadcast", [33, 64], [64, 1], [1, 0]],
  ["both broadcast", [5, 9, 16], [16, 0, 1], [0, 16, 1]],
  ["a transposed operand", [48, 40], [1, 48], [40, 1]],
];

describeGpu("binary", (device) => {
  for (const dtype of floats) {
    for (const op of ops) {
      test.each(shapes)(`${op} ${dtype.name}: %s`, (_, shape, aStrides, bStrides) => {
        const a = randomArray(dtype, span(shape, aStrides), 1);
        const b = randomArray(dtype, span(shape, bStrides), 2);
        const out = output(device, dtype, elementCount(shape));
        const x = decodeArray(dtype, a);
        const y = decodeArray(dtype, b);
        const expected = rounded(
          dtype,
          reference(shape, aStrides, bStrides, (i, j) => binaryReference[op](x[i]!, y[j]!)),
        );
        const pointers = { out: out.ptr, a: upload(device, a), b: upload(device, b) };
        binary(device.stream, { op, ...pointers, shape, aStrides, bStrides, dtype });
        expect(relativeL2(out.numbers(), expected)).toBeLessThan(roundingTolerance(dtype));
      });
    }
  }

  for (const dtype of [int32, int64]) {
    test.each(["add", "sub", "mul", "min", "max", "rsub"] as const)(`%s ${dtype.name} is exact`, (op) => {
      const shape = [19, 8];
      const a = randomArray(dtype, 152, 5);
      const b = randomArray(dtype, 8, 6);
      const out = output(device, dtype, 152);
      const pointers = { out: out.ptr, a: upload(device, a), b: upload(device, b) };
      binary(device.stream, { op, ...pointers, shape, aStrides: [8, 1], bStrides: [0, 1], dtype });
      const expected = reference(shape, [8, 1], [0, 1], (i, j) => binaryReference[op](Number(a[i]), Number(b[j])));
      expect([...out.numbers()]).toEqual([...expected].map((v) => v + 0));
    });
  }

  test("minimum and maximum keep NaN from either side", () => {
    const a = Float32Array.of(Number.NaN, 1, 2, Number.NaN);
    const b = Float32Array.of(1, Number.NaN, 3, Number.NaN);
    for (const op of ["min", "max"] as const) {
      const out = output(device, float32, 4);
      const pointers = { out: out.ptr, a: upload(device, a), b: upload(device, b) };
      binary(device.stream, { op, ...pointers, shape: [4], aStrides: [1], bStrides: [1], dtype: float32 });
      expect([...out.stored()]).toEqual([Number.NaN, Number.NaN, op === "min" ? 2 : 3, Number.NaN]);
    }
  });

  for (const dtype of floats) {
    test.each(ops)(`%s ${dtype.name} with a number, in place`, (op) => {
      for (const count of [1, 37, 1024]) {
        const a = randomArray(dtype, count, 9);
        const out = output(device, dtype, count, a);
        binaryScalar(device.stream, { op, out: out.ptr, a: out.ptr, scalar: 0.625, count, dtype });
        const expected = rounded(
          dtype,
          decodeArray(dtype, a).map((x) => binaryReference[op](x, 0.625)),
        );
        expect(relativeL2(out.numbers(), expected)).toBeLessThan(roundingTolerance(dtype));
      }
    });
  }

  test("int64 with a large number", () => {
    const out = output(device, int64, 3, BigInt64Array.of(1n, -2n, 3n));
    binaryScalar(device.stream, {
      op: "mul",
      out: out.ptr,
      a: out.ptr,
      scalar: 2n ** 40n + 1n,
      count: 3,
      dtype: int64,
    });
    expect([...out.stored()]).toEqual([2n ** 40n + 1n, -2n * (2n ** 40n + 1n), 3n * (2n ** 40n + 1n)]);
  });
});

/** erf by a series of positive terms (Abramowitz and Stegun 7.1.6): no cancellation, float64 precision for |x| < 7. */
function erf(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; n < 300; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

const unaryReference: Record<UnaryOp, (x: number) => number> = {
  neg: (x) => -x,
  abs: Math.abs,
  relu: (x) => Math.max(0, x),
  exp: Math.exp,
  log: Math.log,
  sqrt: Math.sqrt,
  rsqrt: (x) => 1 / Math.sqrt(x),
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  tanh: Math.tanh,
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  geluErf: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
};

describeGpu("unary", (device) => {
  for (const dtype of floats) {
    test.each(Object.keys(unaryReference) as UnaryOp[])(`%s ${dtype.name}`, (op) => {
      for (const count of [1, 8, 1003, 70_001]) {
        // Within ±9, so that no exponential leaves float16's range; positive where the function needs it.
        const positive = op === "log" || op === "sqrt" || op === "rsqrt";
        const values = decodeArray(dtype, randomArray(dtype, count, count)).map((v) =>
          positive ? Math.abs(v) + 2 ** -6 : Math.max(-9, Math.min(9, v)),
        );
        const x = encodeArray(dtype, values);
        const out = output(device, dtype, count);
        unary(device.stream, { op, out: out.ptr, x: upload(device, x), count, dtype });
        const expected = decodeArray(dtype, x).map((v) => unaryReference[op](v));
        expect(relativeL2(out.numbers(), expected)).toBeLessThan(roundingTolerance(dtype));
      }
    });
  }

  test("integers stay exact", () => {
    const x = BigInt64Array.of(-(2n ** 60n) - 1n, 0n, 5n);
    for (const [op, expected] of [
      ["neg", [2n ** 60n + 1n, 0n, -5n]],
      ["abs", [2n ** 60n + 1n, 0n, 5n]],
      ["relu", [0n, 0n, 5n]],
    ] as const) {
      const out = output(device, int64, 3);
      unary(device.stream, { op, out: out.ptr, x: upload(device, x), count: 3, dtype: int64 });
      expect([...out.stored()]).toEqual([...expected]);
    }
  });

  test("an address off the 16-byte grid", () => {
    const x = randomArray(float16, 100, 1);
    const out = output(device, float16, 100, new Uint16Array(100));
    const shifted = (p: bigint) => (p + 2n) as typeof out.ptr;
    unary(device.stream, {
      op: "neg",
      out: shifted(out.ptr),
      x: shifted(upload(device, x)),
      count: 99,
      dtype: float16,
    });
    expect([...out.stored()]).toEqual([0, ...[...x].slice(1).map((v) => Number(v) ^ 0x8000)]);
  });
});

function span(shape: readonly number[], strides: readonly number[]): number {
  return shape.reduce((n, size, d) => n + (size - 1) * strides[d]!, 1);
}

function reference(
  shape: readonly number[],
  a: readonly number[],
  b: readonly number[],
  f: (i: number, j: number) => number,
): Float64Array {
  const steps = contiguousStrides(shape);
  return Float64Array.from({ length: elementCount(shape) }, (_, flat) => {
    let i = 0;
    let j = 0;
    shape.forEach((size, d) => {
      const at = Math.floor(flat / steps[d]!) % size;
      i += at * a[d]!;
      j += at * b[d]!;
    });
    return f(i, j);
  });
}
