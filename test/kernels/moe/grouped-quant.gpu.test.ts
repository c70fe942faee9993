import { expect, test } from "vitest";
import { bfloat16, type DType, float16, float32, type HostArray } from "../../../src/base/dtype.ts";
import { encodeArray } from "../../../src/base/element.ts";
import { deviceTargets } from "../../../src/kernels/library.ts";
import { groupedQuantProduct } from "../../../src/kernels/moe/grouped-quant.ts";
import { groupedQuantFormats } from "../../../src/kernels/moe/grouped-quant-layout.ts";
import { type GroupedKernelName, planWithin } from "../../../src/kernels/moe/plan.ts";
import { type QuantFormat, quantFormats } from "../../../src/kernels/quant-matmul/formats.ts";
import { targetNumber } from "../../../src/kernels/target.ts";
import { groupedProduct as reference } from "../../reference/experts.ts";
import {
  bits,
  describeGpu,
  gpu,
  normals,
  output,
  relativeL2,
  roundingTolerance,
  toNumbers,
  upload,
} from "../../support/gpu.ts";
import { type TestWeight, testWeight } from "../quant/product-data.ts";
import { logitsOf, type Pattern, type RoutingShape, routeOn } from "./routing.ts";

interface Case extends RoutingShape {
  format: QuantFormat;
  pattern: Pattern;
  n: number;
  k: number;
  dtype: DType;
  /** Of the plan: those for few rows read the weight as it is stored, the others dequantize it. */
  kernel: GroupedKernelName;
  /** Of few rows: which one reads it. */
  product?: "gemv" | "mma";
  gate?: "silu" | "gelu";
  outDtype?: DType;
  slabBytes?: number;
  blockSize?: number;
}

/** As for quantMatmul: levels of 4-bit codes, or dequantized weights, are rounded to 16 bits; a gate multiplies two sums. */
function tolerance(c: Case): number {
  const rounded = c.product === "gemv" ? 0 : roundingTolerance(c.dtype) / 2;
  return 2 ** -17 + roundingTolerance(c.outDtype ?? c.dtype) + (c.gate ? 2 : 1) * rounded;
}

const gemv = { kernel: "gemv", product: "gemv" } as const;
const target = gpu ? targetNumber(deviceTargets(gpu)[0]!) : 0;

describeGpu("grouped products with quantized weights", (device) => {
  const weightOf = (c: Case, seed: number): TestWeight =>
    testWeight(device, c.format, c.experts * (c.gate ? 2 : 1) * c.n, c.k, seed, c);

  function run(c: Case, x: HostArray, weight: TestWeight, logits: Float32Array, share: number) {
    const plan = planWithin(c.kernel, { tokens: Math.min(c.tokens, 8) });
    const slots = c.tokens * c.chosen;
    const routed = routeOn(device, logits, c, { groupRows: plan.groupRows });
    const out = output(device, c.outDtype ?? c.dtype, slots * c.n);
    groupedQuantProduct(device.stream, {
      plan,
      out: out.ptr,
      a: upload(device, x),
      weight: weight.data,
      order: routed.order.ptr,
      table: routed.table.ptr,
      slots,
      chosen: c.chosen,
      experts: c.experts,
      n: c.n,
      k: c.k,
      share,
      dtype: c.dtype,
      ...(c.gate && { gate: c.gate }),
      ...(c.outDtype && { outDtype: c.outDtype }),
      ...(c.slabBytes && { slabBytes: c.slabBytes }),
      ...(c.product && { kernel: c.product }),
    });
    return { out, ids: routed.ids.stored() as Int32Array };
  }

  /** Gated results are products of two sums: in float32, for those of float16 would overflow. */
  function check(given: Case): void {
    const c = given.gate ? { ...given, outDtype: float32 } : given;
    const share = c.gate ? c.chosen : 1;
    const x = encodeArray(c.dtype, normals(((c.tokens * c.chosen) / share) * c.k, 1));
    const weight = weightOf(c, 2);
    const { out, ids } = run(c, x, weight, logitsOf(c.pattern, c, 3), share);
    const expected = reference(toNumbers(c.dtype, x), weight.values, ids, { ...c, share });
    expect(relativeL2(out.numbers(), expected)).toBeLessThan(tolerance(c));
  }

  const sixteen = target >= 80 ? [float16, bfloat16] : [float16];
  const few = (format: QuantFormat) => {
    const mma = target >= 80 && groupedQuantFormats.some((other) => other === format);
    return mma ? [gemv, { kernel: "gemv_mma", product: "mma" } as const] : [gemv];
  };
  const many: GroupedKernelName[] = target >= 80 ? ["simt", "mma"] : ["simt"];

  test.each(quantFormats)("%s, few rows", (format) => {
    for (const how of few(format)) {
      for (const dtype of how === gemv ? [float32, ...sixteen] : sixteen) {
        const base = { format, ...how, dtype };
        check({ ...base, tokens: 1, experts: 8, chosen: 2, pattern: "random", n: 18, k: 512, gate: "silu" });
        check({ ...base, tokens: 7, experts: 5, chosen: 3, pattern: "uneven", n: 21, k: 256, outDtype: float32 });
        check({ ...base, tokens: 19, experts: 4, chosen: 1, pattern: "skewed", n: 12, k: 768, gate: "gelu" });
      }
    }
  });

  test.each(quantFormats)("%s, many rows, dequantized in slabs", (format) => {
    for (const kernel of many) {
      for (const dtype of kernel === "simt" ? [float32, float16] : sixteen) {
        const shape = { tokens: 40, experts: 7, chosen: 2, pattern: "random", n: 16, k: 256 } as const;
        const expertBytes = 2 * shape.n * shape.k * dtype.bytes;
        for (const slabBytes of [undefined, 3 * expertBytes, 1]) {
          check({ ...shape, format, kernel, dtype, gate: "silu", ...(slabBytes && { slabBytes }) });
        }
        check({ ...shape, format, kernel, dtype, outDtype: float32, slabBytes: expertBytes });
      }
    }
  });

  test.each([32, 128, 1024])("4-bit codes in blocks of %i", (blockSize) => {
    for (const how of few("code4")) {
      if (how !== gemv && blockSize < 64) continue;
      const shape = { tokens: 3, experts: 4, chosen: 2, pattern: "random", n: 12, k: 256 } as const;
      check({ ...shape, format: "code4", ...how, dtype: float16, blockSize, gate: "silu" });
    }
  });

  // An expert that nobody chose and one that everybody chose; rows of x that start anywhere; K that ends inside a span.
  test("ends of spans, and rows that start anywhere", () => {
    for (const format of ["code4", "q8_0", "q5_1"] as const) {
      for (const how of few(format)) {
        if (how !== gemv && format === "code4") continue;
        const shape = { experts: 6, chosen: 2, pattern: "skewed", n: 8 } as const;
        check({ ...shape, format, ...how, dtype: float16, tokens: 11, k: 320, gate: "silu" });
        if (how === gemv) check({ ...shape, format, ...how, dtype: float16, tokens: 2, k: 96 });
      }
    }
    check({
      ...gemv,
      format: "code4",
      dtype: float32,
      tokens: 5,
      experts: 3,
      chosen: 2,
      pattern: "ties",
      n: 16,
      k: 52,
    });
  });

  for (const format of ["code4", "q4_k", "q6_k"] as const) {
    test(`${format}: a row's bits do not depend on the batch`, () => {
      for (const how of few(format)) {
        const shape = { tokens: 30, experts: 4, chosen: 2, pattern: "random" as const };
        const c: Case = { ...shape, format, n: 24, k: 768, dtype: float16, ...how, gate: "silu" };
        const x = encodeArray(float16, normals(c.tokens * c.k, 5));
        const weight = weightOf(c, 6);
        const logits = logitsOf("random", c, 7);
        const all = run(c, x, weight, logits, 2).out.stored();
        for (const [first, tokens] of [
          [0, 1],
          [29, 1],
          [4, 21],
        ] as const) {
          const part = x.slice(first * c.k, (first + tokens) * c.k);
          const some = run({ ...c, tokens }, part, weight, logits.slice(first * 4, (first + tokens) * 4), 2);
          const row = c.chosen * c.n;
          expect(bits(some.out.stored())).toEqual(bits(all.slice(first * row, (first + tokens) * row)));
        }
      }
    });
  }
});
