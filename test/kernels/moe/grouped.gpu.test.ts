import { expect, test } from "vitest";
import { bfloat16, type DType, float16, float32 } from "../../../src/base/dtype.ts";
import { encodeArray } from "../../../src/base/element.ts";
import { deviceTargets } from "../../../src/kernels/library.ts";
import { gemvMmaSharedBytes } from "../../../src/kernels/matmul/specs.ts";
import { combineExperts } from "../../../src/kernels/moe/combine.ts";
import { groupedProduct } from "../../../src/kernels/moe/grouped.ts";
import { type GroupedKernelName, planWithin } from "../../../src/kernels/moe/plan.ts";
import { targetNumber } from "../../../src/kernels/target.ts";
import { groupedProduct as reference } from "../../reference/experts.ts";
import {
  bits,
  describeGpu,
  gpu,
  normals,
  output,
  randomArray,
  relativeL2,
  roundingTolerance,
  toNumbers,
  upload,
} from "../../support/gpu.ts";
import { logitsOf, type Pattern, type RoutingShape, routeOn } from "./routing.ts";

interface Case extends RoutingShape {
  pattern: Pattern;
  n: number;
  k: number;
  dtype: DType;
  kernel: GroupedKernelName;
  tile?: string;
  gate?: "silu" | "gelu";
  outDtype?: DType;
}

const target = gpu ? targetNumber(deviceTargets(gpu)[0]!) : 0;

/** Outputs are rounded once; sums of K terms in float32 err by some sqrt(K) * 2^-24. A gate multiplies two sums. */
function tolerance(c: Case): number {
  const out = c.outDtype ?? c.dtype;
  const rounding = out === float32 ? 0 : roundingTolerance(out, 0.5);
  return (rounding + 2e-7 * Math.sqrt(c.k) + 1e-6) * (c.gate ? 2 : 1);
}

describeGpu("grouped products", (device) => {
  /** `slab`: experts of one launch, whose weights alone it gets; default all. */
  function run(
    c: Case,
    x: ReturnType<typeof randomArray>,
    w: typeof x,
    logits: Float32Array,
    share: number,
    slab = c.experts,
  ) {
    const plan = planWithin(c.kernel, c, c.tile);
    const slots = c.tokens * c.chosen;
    const routed = routeOn(device, logits, c, { groupRows: plan.groupRows });
    const out = output(device, c.outDtype ?? c.dtype, slots * c.n);
    const a = upload(device, x);
    const product = {
      plan,
      out: out.ptr,
      a,
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
    };
    for (let first = 0; first < c.experts; first += slab) {
      const end = Math.min(first + slab, c.experts);
      const part = w.slice((first / c.experts) * w.length, (end / c.experts) * w.length);
      const range = slab < c.experts ? { range: { first, end } } : {};
      groupedProduct(device.stream, { ...product, ...range, b: upload(device, part) });
    }
    return { out, ids: routed.ids.stored() as Int32Array };
  }

  function check(c: Case): void {
    const name = Object.entries(c)
      .map(([key, value]) => `${key} ${typeof value === "object" ? (value as DType).short : value}`)
      .join(", ");
    const minimum = c.kernel === "mma" || c.kernel === "gemv_mma" ? 80 : 60;
    test.skipIf(minimum > target)(name, () => {
      const share = c.gate ? c.chosen : 1;
      const halves = c.gate ? 2 : 1;
      const x = encodeArray(c.dtype, normals(((c.tokens * c.chosen) / share) * c.k, 1));
      const w = encodeArray(c.dtype, normals(c.experts * halves * c.n * c.k, 2));
      const { out, ids } = run(c, x, w, logitsOf(c.pattern, c, 3), share);
      const expected = reference(toNumbers(c.dtype, x), toNumbers(c.dtype, w), ids, { ...c, share });
      expect(relativeL2(out.numbers(), expected)).toBeLessThan(tolerance(c));
    });
  }

  const kernels: { kernel: GroupedKernelName; tile?: string; dtypes: DType[] }[] = [
    { kernel: "gemv", dtypes: [float32, float16, bfloat16] },
    { kernel: "gemv_mma", dtypes: [float16, bfloat16] },
    { kernel: "simt", tile: "t32", dtypes: [float32, bfloat16] },
    { kernel: "simt", tile: "t64", dtypes: [float32, float16] },
    { kernel: "simt", tile: "t128", dtypes: [float32, float16, bfloat16] },
    { kernel: "mma", tile: "t64x64", dtypes: [float16, bfloat16] },
    { kernel: "mma", tile: "t128x128", dtypes: [float16, bfloat16] },
  ];
  for (const { kernel, tile, dtypes } of kernels) {
    for (const dtype of dtypes) {
      const base = { kernel, dtype, ...(tile && { tile }) };
      const both = (c: Omit<Case, "kernel" | "dtype" | "tile">) => {
        check({ ...base, ...c, gate: c.n % 2 ? "gelu" : "silu" });
        check({ ...base, ...c, outDtype: float32 });
      };
      both({ tokens: 1, experts: 8, chosen: 2, pattern: "random", n: 72, k: 136 });
      both({ tokens: 1, experts: 128, chosen: 8, pattern: "random", n: 40, k: 64 });
      both({ tokens: 7, experts: 2, chosen: 1, pattern: "random", n: 33, k: 520 });
      both({ tokens: 19, experts: 16, chosen: 3, pattern: "uneven", n: 64, k: 72 });
      both({ tokens: 150, experts: 3, chosen: 1, pattern: "skewed", n: 96, k: 64 });
      both({ tokens: 300, experts: 24, chosen: 8, pattern: "random", n: 16, k: 40 });
      // Rows that do not start on 16 bytes.
      if (kernel === "gemv" || kernel === "simt") {
        both({ tokens: 37, experts: 5, chosen: 2, pattern: "uneven", n: 31, k: 51 });
      }
    }
  }

  for (const { kernel, tile, dtypes } of kernels) {
    const minimum = kernel === "mma" || kernel === "gemv_mma" ? 80 : 60;
    const dtype = dtypes[0]!;
    test.skipIf(minimum > target)(`${kernel} ${tile ?? ""}: a row's bits do not depend on the batch`, () => {
      const shape = { tokens: 90, experts: 4, chosen: 2, pattern: "random" as const };
      const c: Case = { ...shape, n: 48, k: 1032, dtype, kernel, gate: "silu", ...(tile && { tile }) };
      const x = encodeArray(dtype, normals(c.tokens * c.k, 5));
      const w = encodeArray(dtype, normals(c.experts * 2 * c.n * c.k, 6));
      const logits = logitsOf("random", c, 7);
      const all = run(c, x, w, logits, 2).out.stored();
      for (const [first, tokens] of [
        [0, 1],
        [89, 1],
        [30, 5],
        [4, 21],
      ] as const) {
        const part = x.slice(first * c.k, (first + tokens) * c.k);
        const some = run({ ...c, tokens }, part, w, logits.slice(first * c.experts, (first + tokens) * c.experts), 2);
        const row = c.chosen * c.n;
        expect(bits(some.out.stored())).toEqual(bits(all.slice(first * row, (first + tokens) * row)));
      }
    });
  }

  for (const { kernel, tile, dtypes } of kernels) {
    if (kernel === "gemv_mma") continue;
    const dtype = dtypes[0]!;
    test.skipIf(kernel === "mma" && target < 80)(`${kernel} ${tile ?? ""}: experts in several launches`, () => {
      const shape = { tokens: 40, experts: 7, chosen: 2, pattern: "random" as const };
      const c: Case = { ...shape, n: 40, k: 72, dtype, kernel, gate: "silu", ...(tile && { tile }) };
      const x = encodeArray(dtype, normals(c.tokens * c.k, 5));
      const w = encodeArray(dtype, normals(c.experts * 2 * c.n * c.k, 6));
      const logits = logitsOf("random", c, 7);
      const whole = run(c, x, w, logits, 2).out.stored();
      for (const slab of [1, 3]) expect(bits(run(c, x, w, logits, 2, slab).out.stored())).toEqual(bits(whole));
    });
  }

  // The tile of 32 weight rows is chosen where there are many of them, and only sm_90 has it.
  const wide = target >= 90 && gpu!.attributes.sharedPerBlockOptin >= gemvMmaSharedBytes("32", "16");
  test.skipIf(!wide)("gemv_mma: wide and narrow tiles, 8 and 16 rows", () => {
    for (const tokens of [1, 8, 40]) {
      for (const n of [48, 2080]) {
        const shape = { tokens, experts: 16, chosen: 4, pattern: "random" as const };
        const c: Case = { ...shape, n, k: 200, dtype: bfloat16, kernel: "gemv_mma", gate: "silu" };
        const x = encodeArray(bfloat16, normals(tokens * c.k, 1));
        const w = encodeArray(bfloat16, normals(c.experts * 2 * n * c.k, 2));
        const { out, ids } = run(c, x, w, logitsOf("random", c, 3), 4);
        const expected = reference(toNumbers(bfloat16, x), toNumbers(bfloat16, w), ids, { ...c, share: 4 });
        expect(relativeL2(out.numbers(), expected)).toBeLessThan(tolerance(c));
      }
    }
  });

  for (const dtype of [float32, float16, bfloat16]) {
    test.each([
      [1, 1, 8],
      [3, 2, 130],
      [11, 8, 1096],
      [2, 11, 102],
    ])(`combine: %i tokens of %i slots, %i wide, ${dtype.name}`, (tokens, chosen, cols) => {
      const x = randomArray(dtype, tokens * cols, 1);
      const y = randomArray(float32, tokens * chosen * cols, 2);
      const w = Float32Array.from(normals(tokens * chosen, 3));
      const args = { y: upload(device, y), weights: upload(device, w), tokens, cols, chosen, dtype };
      const out = output(device, dtype, tokens * cols, x);
      combineExperts(device.stream, { out: out.ptr, residual: out.ptr, ...args });
      const alone = output(device, dtype, tokens * cols);
      combineExperts(device.stream, { out: alone.ptr, ...args });
      const [ys, ws] = [toNumbers(float32, y), toNumbers(float32, w)];
      const sums = Float64Array.from({ length: tokens * cols }, (_, i) => {
        const [t, c] = [Math.floor(i / cols), i % cols];
        let sum = 0;
        for (let j = 0; j < chosen; j++) sum += ws[t * chosen + j]! * ys[(t * chosen + j) * cols + c]!;
        return sum;
      });
      expect(relativeL2(alone.numbers(), sums)).toBeLessThan(roundingTolerance(dtype));
      const added = toNumbers(dtype, x).map((value, i) => value + sums[i]!);
      expect(relativeL2(out.numbers(), added)).toBeLessThan(roundingTolerance(dtype));
    });
  }
});
