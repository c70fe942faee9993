import { describe, expect, test } from "vitest";
import { bfloat16, type DType, float16, float32 } from "../../src/base/dtype.ts";
import { ShapeError } from "../../src/base/errors.ts";
import { MixtureOfExperts } from "../../src/nn/moe.ts";
import { QuantizedWeight } from "../../src/tensor/quantized-weight.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { tidy } from "../../src/tensor/tidy.ts";
import { groupedProduct, route } from "../reference/experts.ts";
import { bits, describeGpu, relativeL2, roundingTolerance } from "../support/gpu.ts";

interface Size {
  tokens: number;
  experts: number;
  chosen: number;
  c: number;
  f: number;
  normalize?: boolean;
}

describeGpu("MixtureOfExperts", (device) => {
  const randn = (shape: number[], dtype: DType, seed: number) => Tensor.randn(shape, { dtype, device, seed });
  const numbers = (t: Tensor) => Float64Array.from(t.toArray(), Number);
  const valuesOf = (weight: Tensor | QuantizedWeight) =>
    numbers(weight instanceof QuantizedWeight ? weight.dequantize() : weight);

  /** Router weights large enough that choices are clear, whatever the rounding. */
  const layer = ({ experts, chosen, c, f, normalize = true }: Size, dtype: DType) =>
    new MixtureOfExperts(
      randn([experts, c], dtype, 1),
      randn([experts, 2 * f, c], dtype, 2).mul_(1 / Math.sqrt(c)),
      randn([experts, c, f], dtype, 3).mul_(1 / Math.sqrt(f)),
      { chosen, normalize, activation: "silu" },
    );

  /** The formula in float64, on the stored weights; the intermediate rounded to the dtype, as it is stored. */
  function reference(mixture: MixtureOfExperts, x: Tensor): Float64Array {
    const { chosen, normalize } = mixture.config;
    const [experts, c] = mixture.router.shape as [number, number];
    const f = mixture.down.shape.at(-1)!;
    const xs = numbers(x);
    const ones = new Int32Array(xs.length / c);
    const logits = groupedProduct(xs, numbers(mixture.router), ones, { n: experts, k: c, share: 1 });
    const { ids, weights } = route(logits, experts, chosen, normalize);
    const hidden = groupedProduct(xs, valuesOf(mixture.gateUp), ids, { n: f, k: c, share: chosen, gate: "silu" });
    const rounded = numbers(Tensor.from(hidden, { dtype: x.dtype, device }));
    const results = groupedProduct(rounded, valuesOf(mixture.down), ids, { n: c, k: f, share: 1 });
    return xs.map((_, i) => {
      const t = Math.floor(i / c);
      let sum = 0;
      for (let j = 0; j < chosen; j++) sum += weights[t * chosen + j]! * results[(t * chosen + j) * c + (i % c)]!;
      return sum;
    });
  }

  const sizes: Size[] = [
    { tokens: 1, experts: 8, chosen: 2, c: 64, f: 40 },
    { tokens: 1, experts: 128, chosen: 8, c: 72, f: 16, normalize: false },
    { tokens: 9, experts: 2, chosen: 2, c: 48, f: 24 },
    { tokens: 77, experts: 16, chosen: 4, c: 40, f: 56, normalize: false },
    { tokens: 300, experts: 4, chosen: 3, c: 64, f: 32 },
    { tokens: 23, experts: 5, chosen: 2, c: 33, f: 19 },
  ];
  describe.each([float32, float16, bfloat16].map((dtype) => [dtype.name, dtype] as const))("in %s", (_, dtype) => {
    test.each(sizes)("$tokens tokens, $chosen of $experts, C $c, F $f, with and without a residual", (size) => {
      tidy(() => {
        const mixture = layer(size, dtype);
        const x = randn([size.tokens, size.c], dtype, 4);
        const residual = randn([size.tokens, size.c], dtype, 5);
        const expected = reference(mixture, x);
        const added = numbers(residual).map((value, i) => value + expected[i]!);
        // The result is rounded once; the intermediate's rounding may fall to the other side of a tie here and there.
        const tolerance = roundingTolerance(dtype, 1) + roundingTolerance(float32, 4);
        expect(relativeL2(numbers(mixture.forward(x)), expected)).toBeLessThan(tolerance);
        expect(mixture.forward(x, { residual })).toBe(residual);
        expect(relativeL2(numbers(residual), added)).toBeLessThan(tolerance);
      });
    });

    test("a token's bits depend neither on the batch nor on its place, for every batch that a decode step has", () => {
      tidy(() => {
        const size = { tokens: 64, experts: 32, chosen: 4, c: 128, f: 64 };
        const mixture = layer(size, dtype);
        const x = randn([64, size.c], dtype, 6);
        const all = mixture.forward(x);
        for (const [first, last] of [
          [0, 1],
          [63, 64],
          [5, 12],
          [20, 41],
        ] as const) {
          const some = mixture.forward(x.slice(0, first, last));
          expect(bits(some.toArray())).toEqual(bits(all.slice(0, first, last).contiguous().toArray()));
        }
      });
    });
  });

  describe("with experts in 4-bit codes", () => {
    /** Both weights quantized, or one; blocks of 64 end with every expert. */
    const quantized = (size: Size, dtype: DType, which: readonly ("gateUp" | "down")[] = ["gateUp", "down"]) => {
      const { router, gateUp, down, config } = layer(size, dtype);
      const quantize = (name: "gateUp" | "down", weight: Tensor | QuantizedWeight) =>
        weight instanceof Tensor && which.includes(name)
          ? QuantizedWeight.quantize(weight.view([-1, weight.shape.at(-1)!]))
          : weight;
      return new MixtureOfExperts(router, quantize("gateUp", gateUp), quantize("down", down), config);
    };

    // With few rows an expert, products read the codes; with many, they are dequantized first.
    const quantizedSizes: Size[] = [
      { tokens: 1, experts: 8, chosen: 2, c: 64, f: 40 },
      { tokens: 5, experts: 16, chosen: 4, c: 256, f: 512, normalize: false },
      { tokens: 100, experts: 3, chosen: 2, c: 64, f: 32 },
    ];
    describe.each([float32, float16, bfloat16].map((dtype) => [dtype.name, dtype] as const))("in %s", (_, dtype) => {
      test.each(quantizedSizes)("$tokens tokens, $chosen of $experts, C $c, F $f", (size) => {
        for (const which of [["gateUp", "down"], ["down"], ["gateUp"]] as const) {
          tidy(() => {
            const mixture = quantized(size, dtype, which);
            const x = randn([size.tokens, size.c], dtype, 4);
            // Beside the rounding of results: levels, or dequantized values, are rounded to 16 bits, in two products in a row.
            const tolerance = roundingTolerance(dtype, 3) + roundingTolerance(float32, 8);
            expect(relativeL2(numbers(mixture.forward(x)), reference(mixture, x))).toBeLessThan(tolerance);
          });
        }
      });
    });

    test("a token's bits depend neither on the batch nor on its place", () => {
      tidy(() => {
        const mixture = quantized({ tokens: 64, experts: 32, chosen: 4, c: 256, f: 256 }, float16);
        const x = randn([64, 256], float16, 6);
        const all = mixture.forward(x);
        for (const [first, last] of [
          [0, 1],
          [5, 12],
          [20, 41],
        ] as const) {
          const some = mixture.forward(x.slice(0, first, last));
          expect(bits(some.toArray())).toEqual(bits(all.slice(0, first, last).contiguous().toArray()));
        }
      });
    });

    test("a step reads a quarter of the bytes; experts that share a block are refused", () => {
      tidy(() => {
        const size = { tokens: 1, experts: 8, chosen: 2, c: 64, f: 64 };
        const [plain, small] = [layer(size, float16), quantized(size, float16)];
        const router = plain.router.sizeBytes;
        expect((small.bytesRead(1) - router) / (plain.bytesRead(1) - router)).toBeCloseTo(4.5 / 16, 2);
        expect(small.parameterCount).toBe(plain.parameterCount);
        expect(() => quantized({ ...size, c: 16, f: 6 }, float16)).toThrow(ShapeError);
      });
    });
  });

  test("is captured in a graph, which routes anew on every replay", () => {
    const size = { tokens: 3, experts: 8, chosen: 2, c: 64, f: 32 };
    tidy(() => {
      const mixture = layer(size, bfloat16);
      const inputs = [7, 8, 9].map((seed) => randn([size.tokens, size.c], bfloat16, seed));
      const expected = inputs.map((x) => bits(mixture.forward(x).toArray()));
      const x = inputs[0]!.clone();
      const out = Tensor.zeros([size.tokens, size.c], { dtype: "bfloat16", device });
      const pool = device.createMemoryPool("graph under test");
      using graph = device.useMemory(pool, () =>
        device.stream.capture(() => {
          tidy(() => out.copy_(mixture.forward(x)));
        }),
      );
      using executable = graph.instantiate();
      for (const [i, input] of inputs.entries()) {
        x.copy_(input);
        executable.launch(device.stream);
        expect(bits(out.toArray())).toEqual(expected[i]!);
      }
      device.stream.synchronize();
      pool.dispose();
    });
  });

  test("no tokens are no work; weights that do not fit, and more choices than experts, are refused", () => {
    tidy(() => {
      const mixture = layer({ tokens: 1, experts: 4, chosen: 2, c: 16, f: 8 }, float32);
      expect(mixture.forward(Tensor.empty([0, 16], { dtype: "float32", device })).shape).toEqual([0, 16]);
      expect(() => mixture.forward(Tensor.empty([2, 8], { dtype: "float32", device }))).toThrow(
        new ShapeError("MixtureOfExperts: input must be [..., 16] float32, got [2, 8] float32"),
      );
      const { router, gateUp, down, config } = mixture;
      expect(() => new MixtureOfExperts(router, gateUp, down, { ...config, chosen: 5 })).toThrow(
        new ShapeError("MixtureOfExperts: a token cannot go to 5 of 4 experts; choose from 1 to 4"),
      );
      expect(() => new MixtureOfExperts(router, down, gateUp, config)).toThrow(
        "router, gateUp and down must be [E, C], [E, 2F, C] and [E, C, F] (quantized: [E · 2F, C] and [E · C, F]), got [4, 16], [4, 16, 8], [4, 16, 16]",
      );
    });
  });

  test("bytes that a step reads: the router and the chosen experts, each once", () => {
    tidy(() => {
      const mixture = layer({ tokens: 1, experts: 8, chosen: 2, c: 16, f: 8 }, float32);
      const expert = 3 * 16 * 8 * 4;
      const router = 8 * 16 * 4;
      expect(mixture.bytesRead(1)).toBeCloseTo(router + 2 * expert);
      expect(mixture.bytesRead(2)).toBeCloseTo(router + (2 + 2 * 0.75) * expert);
      expect(mixture.bytesRead(1000)).toBeCloseTo(mixture.parameterBytes);
    });
  });
});
