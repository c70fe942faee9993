import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bfloat16, type DType, float16, float32 } from "../../src/base/dtype.ts";
import { ShapeError } from "../../src/base/errors.ts";
import { Embedding } from "../../src/nn/embedding.ts";
import { Linear } from "../../src/nn/linear.ts";
import { Module } from "../../src/nn/module.ts";
import { RMSNorm } from "../../src/nn/rms-norm.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { tidy } from "../../src/tensor/tidy.ts";
import { describeGpu, relativeL2, roundingTolerance } from "../support/gpu.ts";

/** y[m, n] = Σ x[m, k] · w[n, k] in float64. */
function product(x: ArrayLike<number>, w: ArrayLike<number>, m: number, n: number, k: number): Float64Array {
  const y = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let l = 0; l < k; l++) sum += x[i * k + l]! * w[j * k + l]!;
      y[i * n + j] = sum;
    }
  }
  return y;
}

const numbers = (t: Tensor): number[] => Array.from(t.toArray(), Number);

class Pair extends Module {
  readonly first: Linear;
  readonly rest: Linear[];
  readonly norm: RMSNorm;

  constructor(first: Linear, rest: Linear[], norm: RMSNorm) {
    super();
    this.first = first;
    this.rest = rest;
    this.norm = norm;
  }
}

describeGpu("layers", (device) => {
  let live = 0;
  beforeEach(() => {
    live = device.memory.statistics().liveBuffers;
  });
  afterEach(() => expect(device.memory.statistics().liveBuffers).toBe(live));
  const randn = (shape: number[], dtype: DType, seed: number) => Tensor.randn(shape, { dtype, device, seed });

  describe.each([float32, float16, bfloat16].map((dtype) => [dtype.name, dtype] as const))(
    "Linear in %s",
    (_, dtype) => {
      test.each([
        [1, 1, 1],
        [1, 33, 129],
        [3, 128, 64],
        [7, 65, 200],
        [33, 96, 72],
        [70, 257, 128],
      ])("%d rows, %d outputs, %d inputs: with bias, with residual, gated", (m, n, k) => {
        tidy(() => {
          const [x, w, b, r] = [
            randn([m, k], dtype, 1),
            randn([2 * n, k], dtype, 2),
            randn([2 * n], dtype, 3),
            randn([m, 2 * n], dtype, 4),
          ];
          const sums = product(numbers(x), numbers(w), m, 2 * n, k);
          const bias = numbers(b);
          const withBias = sums.map((v, i) => v + bias[i % (2 * n)]!);
          const residual = numbers(r);
          // The reference's inputs are the rounded ones, so what is left is one rounding, and float32 sums.
          const tolerance = roundingTolerance(dtype) + Math.sqrt(k) * 2 ** -22;
          expect(relativeL2(numbers(new Linear(w).forward(x)), sums)).toBeLessThan(tolerance);
          expect(relativeL2(numbers(new Linear(w, b).forward(x)), withBias)).toBeLessThan(tolerance);
          const gated = Float64Array.from({ length: m * n }, (_, i) => {
            const at = Math.floor(i / n) * 2 * n + (i % n);
            return (withBias[at]! / (1 + Math.exp(-withBias[at]!))) * withBias[at + n]!;
          });
          // The gate multiplies the errors of two sums.
          expect(relativeL2(numbers(new Linear(w, b).forwardGated(x, "silu")), gated)).toBeLessThan(4 * tolerance);
          const sum = new Linear(w, b).forward(x, { residual: r });
          expect(sum).toBe(r);
          expect(
            relativeL2(
              numbers(r),
              withBias.map((v, i) => v + residual[i]!),
            ),
          ).toBeLessThan(tolerance);
        });
      });
    },
  );

  test("Linear.create starts within ±1/√K, the same for one seed", () => {
    tidy(() => {
      const a = Linear.create(64, 32, { device, seed: 5 });
      const b = Linear.create(64, 32, { device, seed: 5 });
      const values = numbers(a.weight);
      expect(values.every((v) => Math.abs(v) <= 1 / 8)).toBe(true);
      expect(Math.max(...values) > 0.1).toBe(true);
      expect(numbers(b.weight)).toEqual(values);
      expect(numbers(a.bias!).join() === values.slice(0, 32).join()).toBe(false);
    });
  });

  test("Embedding gathers rows, and gives NaN for an id that is not there", () => {
    tidy(() => {
      const table = randn([5, 7], float32, 1);
      const ids = Tensor.from(Int32Array.of(4, 0, 5), { device });
      const rows = numbers(new Embedding(table).forward(ids));
      const all = numbers(table);
      expect(rows.slice(0, 14)).toEqual([...all.slice(28), ...all.slice(0, 7)]);
      expect(rows.slice(14).every(Number.isNaN)).toBe(true);
    });
  });

  test("RMSNorm", () => {
    tidy(() => {
      const [x, w] = [randn([5, 130], float32, 1), randn([130], float32, 2)];
      const values = numbers(x);
      const weight = numbers(w);
      const expected = values.map((v, i) => {
        const row = values.slice(Math.floor(i / 130) * 130, Math.floor(i / 130) * 130 + 130);
        return (v / Math.sqrt(row.reduce((s, e) => s + e * e, 0) / 130 + 1e-5)) * weight[i % 130]!;
      });
      expect(relativeL2(numbers(new RMSNorm(w, 1e-5).forward(x)), Float64Array.from(expected))).toBeLessThan(1e-6);
    });
  });

  test("a Module names its parameters, counts a shared one once, converts and disposes them", () => {
    const shared = randn([3, 4], float32, 1);
    const make = () => new Linear(shared);
    const pair = new Pair(make(), [make(), Linear.create(4, 2, { device })], new RMSNorm(randn([4], float32, 2), 1e-6));
    expect([...pair.namedParameters()].map(([name]) => name)).toEqual([
      "first.weight",
      "rest.0.weight",
      "rest.1.weight",
      "rest.1.bias",
      "norm.weight",
    ]);
    expect(pair.parameterCount).toBe(12 + 8 + 2 + 4);
    expect(pair.parameterBytes).toBe(4 * 26);
    const before = numbers(shared);
    expect(pair.to("float16")).toBe(pair);
    expect(pair.first.weight).toBe(pair.rest[0]!.weight);
    expect(pair.parameterBytes).toBe(2 * 26);
    expect(relativeL2(numbers(pair.first.weight), Float64Array.from(before))).toBeLessThan(2 ** -10);
    pair.dispose();
  });

  test("what does not fit is named with both shapes", () => {
    tidy(() => {
      const layer = Linear.create(4, 3, { device });
      expect(() => layer.forward(randn([2, 5], float32, 1))).toThrow(ShapeError);
      expect(() => layer.forward(randn([2, 5], float32, 1))).toThrow("[..., 4] float32, got [2, 5] float32");
      expect(() => layer.forward(randn([2, 4], float16, 1))).toThrow("got [2, 4] float16");
      expect(() => layer.forward(randn([2, 4], float32, 1), { residual: randn([2, 4], float32, 1) })).toThrow("[2, 3]");
      expect(() => new Linear(randn([3], float32, 1))).toThrow("weight must be [out, in]");
      expect(() => new RMSNorm(randn([4], float32, 1), 1e-6).forward(randn([2, 3], float32, 1))).toThrow("[2, 3]");
    });
  });
});
