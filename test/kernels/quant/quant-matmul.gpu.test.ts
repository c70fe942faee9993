import { expect, test } from "vitest";
import { bfloat16, type DType, float16, float32 } from "../../../src/base/dtype.ts";
import { ggmlFormats } from "../../../src/kernels/ggml/ggml.ts";
import { deviceTargets } from "../../../src/kernels/library.ts";
import { type QuantFormat, quantFormats } from "../../../src/kernels/quant-matmul/formats.ts";
import { ggmlBlock, ggmlBoxes } from "../../../src/kernels/quant-matmul/ggml-layout.ts";
import type { QuantKernelName, QuantMatmulParams } from "../../../src/kernels/quant-matmul/params.ts";
import { quantChoice, quantMachine, quantMatmul } from "../../../src/kernels/quant-matmul/quant-matmul.ts";
import { wgmmaBoxes } from "../../../src/kernels/quant-matmul/wgmma-layout.ts";
import { targetNumber } from "../../../src/kernels/target.ts";
import {
  describeGpu,
  gpu,
  output,
  randomArray,
  relativeL2,
  roundingTolerance,
  toNumbers,
  upload,
} from "../../support/gpu.ts";
import { exactProduct, testWeight, withGaps } from "./product-data.ts";

interface Case {
  format: QuantFormat;
  m: number;
  n: number;
  k: number;
  dtype: DType;
  kernel?: QuantKernelName;
  outDtype?: DType;
  bias?: boolean;
  residual?: boolean;
  gate?: "silu" | "gelu";
  gap?: number;
  blockSize?: number;
  nested?: boolean;
  valueDType?: DType;
}

/**
 * Beside the rounding of the result: levels of 4-bit codes are rounded to the dtype (mma), weights when they are dequantized
 * first; both average out over a row. Values that are bfloat16 are themselves again in a finer type, but for float16's
 * subnormal ones. The float32 sums themselves stay below 2^-17.
 */
function tolerance(c: Case): number {
  const exact = c.kernel === "gemv" || (c.valueDType === bfloat16 && c.dtype !== bfloat16);
  const rounded = exact ? 0 : roundingTolerance(c.dtype) / 2;
  return 2 ** -17 + roundingTolerance(c.outDtype ?? c.dtype) + rounded;
}

const silu = (x: number): number => x / (1 + Math.exp(-x));
const gelu = (x: number): number => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

describeGpu("products with quantized weights", (device) => {
  // Where there is no device, tests are named and skipped.
  const capability = gpu ? targetNumber(deviceTargets(gpu)[0]!) : 80;

  /** Runs a case, compares it with float64, and returns the bits of the result. */
  function check(c: Case, seed = 1) {
    const { m, n, k, dtype, gap = 0 } = c;
    const outDtype = c.outDtype ?? dtype;
    const rows = c.gate ? 2 * n : n;
    const weight = testWeight(device, c.format, rows, k, seed, c);
    const x = randomArray(dtype, m * k, seed + 1);
    const bias = c.bias ? randomArray(dtype, rows, seed + 2) : undefined;
    const residual = c.residual ? randomArray(outDtype, m * n, seed + 3) : undefined;
    const out = output(device, outDtype, m * n, residual);
    const p: QuantMatmulParams = {
      out: out.ptr,
      x: upload(device, withGaps(dtype, x, k, gap)),
      weight: weight.data,
      m,
      n,
      k,
      dtype,
      outDtype,
      ldx: k + gap,
    };
    if (bias) p.bias = upload(device, bias);
    if (residual) p.residual = out.ptr;
    if (c.gate) p.gate = c.gate;
    if (c.kernel) p.kernel = c.kernel;
    quantMatmul(device.stream, p);

    const sums = exactProduct(toNumbers(dtype, x), weight.values, m, rows, k);
    const added = bias && toNumbers(dtype, bias);
    const base = residual && toNumbers(outDtype, residual);
    const expected = Float64Array.from({ length: m * n }, (_, at) => {
      const [i, j] = [Math.floor(at / n), at % n];
      const sum = (column: number): number => sums[i * rows + column]! + (added?.[column] ?? 0);
      if (c.gate) return (c.gate === "silu" ? silu : gelu)(sum(j)) * sum(n + j);
      return sum(j) + (base?.[at] ?? 0);
    });
    const stored = out.stored();
    expect(relativeL2(toNumbers(outDtype, stored), expected)).toBeLessThan(tolerance(c));
    return { stored, p, choice: quantChoice(device.stream, p) };
  }

  const kernels: QuantKernelName[] = capability >= 80 ? ["mma", "gemv"] : ["gemv"];
  const sixteen = capability >= 80 ? [float16, bfloat16] : [float16];
  const hopper = gpu !== undefined && deviceTargets(gpu).includes("sm_90a");
  const many: QuantKernelName[] = [
    ...(hopper ? (["wgmma"] as const) : []),
    ...(capability >= 80 ? (["gemm"] as const) : []),
    ...(capability >= 70 ? (["wmma"] as const) : []),
  ];
  const dtypesOf = (kernel: QuantKernelName): DType[] => (kernel === "wmma" ? [float16] : sixteen);
  // Rows of Q6_K are a multiple of 16 bytes where K is one of 2048: see below.
  const takes = (kernel: QuantKernelName, format: QuantFormat): boolean =>
    kernel !== "wgmma" || (wgmmaBoxes[format] !== undefined && format !== "q6_k");
  const eachMany = quantFormats.flatMap((format) =>
    many.filter((kernel) => takes(kernel, format)).map((kernel) => [format, kernel] as const),
  );

  const kernelsOf = (format: QuantFormat): QuantKernelName[] =>
    format === "code4" && capability >= 90 ? ["bulk", ...kernels] : kernels;
  const codeKernels = kernelsOf("code4");
  const mostRows = (kernel: QuantKernelName): number => (kernel === "gemv" ? 8 : 16);
  const each = quantFormats.flatMap((format) => kernelsOf(format).map((kernel) => [format, kernel] as const));

  test.each(each)("%s, %s: few rows", (format, kernel) => {
    for (const dtype of kernel === "gemv" ? [float32, ...sixteen] : sixteen) {
      check({ format, kernel, dtype, m: 1, n: 37, k: 512 });
      check({ format, kernel, dtype, m: kernel === "gemv" ? 7 : 13, n: 20, k: 1280, outDtype: float32 });
    }
  });

  test.each(each)("%s, %s: bias, residual and gate", (format, kernel) => {
    const dtype = float16;
    check({ format, kernel, dtype, m: 3, n: 18, k: 256, bias: true, residual: true });
    check({ format, kernel, dtype, m: 5, n: 11, k: 512, gate: "silu", gap: 8, outDtype: float32 });
    check({ format, kernel, dtype, m: 2, n: 8, k: 256, gate: "gelu", bias: true, outDtype: float32 });
  });

  const small = quantFormats.filter((format) => !format.endsWith("_k") && format !== "iq4_xs");
  test.each(small)("%s: rows that end inside a span, and rows of x that start anywhere", (format) => {
    for (const kernel of kernels) {
      if (kernel === "mma" && format === "code4") continue;
      check({ format, kernel, dtype: float16, m: 2, n: 19, k: 320 });
      check({ format, kernel, dtype: float16, m: 1, n: 5, k: 64 });
    }
    check({ format, kernel: "gemv", dtype: float16, m: 2, n: 9, k: 96, gap: 3 });
    for (const kernel of many.filter((name) => takes(name, format))) {
      // Rows of GGML blocks that are a multiple of 16 bytes, as the copy engine wants them, end where a span does.
      if (kernel === "wgmma" && format !== "code4") continue;
      check({ format, kernel, dtype: float16, m: 20, n: 30, k: format === "code4" ? 320 : 352 });
    }
  });

  test.each([64, 128, 1024, 4096])("4-bit codes in blocks of %i", (blockSize) => {
    for (const kernel of codeKernels) {
      check({ format: "code4", kernel, dtype: float16, m: 2, n: 21, k: 512, blockSize });
    }
    check({ format: "code4", kernel: "gemv", dtype: float32, m: 2, n: 7, k: 132, blockSize: 32 });
  });

  test("4-bit codes with nested absmax", () => {
    for (const kernel of codeKernels) {
      check({ format: "code4", kernel, dtype: float16, m: 2, n: 70, k: 768, nested: true });
    }
  });

  test.each([
    ["bfloat16", "float32", bfloat16, float32],
    ["float16", "float32", float16, float32],
    ["bfloat16", "float16", bfloat16, float16],
  ] as const)("4-bit codes of a %s weight in %s have the values that it had", (_, __, valueDType, dtype) => {
    const c = { format: "code4", dtype, valueDType, outDtype: float32 } as const;
    for (const kernel of dtype === float32 ? (["gemv"] as const) : codeKernels) {
      check({ ...c, kernel, m: 1, n: 37, k: 512 });
      check({ ...c, kernel, m: 8, n: 20, k: 1280, nested: true, bias: true });
      check({ ...c, kernel, m: 3, n: 11, k: 512, gate: "silu", gap: 8, blockSize: 256 });
      if (kernel !== "gemv") check({ ...c, kernel, m: 13, n: 40, k: 768 });
    }
    check({ ...c, kernel: "dequantize", m: 19, n: 24, k: 256 });
  });

  test.each(quantFormats)("%s: many rows, dequantized first", (format) => {
    for (const dtype of [float32, ...sixteen])
      check({ format, kernel: "dequantize", dtype, m: 33, n: 40, k: 256, outDtype: float32 });
    check({ format, kernel: "dequantize", dtype: float16, m: 17, n: 24, k: 256, gate: "silu", outDtype: float32 });
  });

  test("a row has the same bits in every batch that one kernel takes", () => {
    const few = (["q4_k", "code4"] as const).flatMap((format) =>
      kernelsOf(format).map((kernel) => [format, kernel, mostRows(kernel)] as const),
    );
    const more = many.map((kernel) => ["q4_k", kernel, kernel === "wgmma" ? 200 : 80] as const);
    const codes = hopper ? ([["code4", "wgmma", 200]] as const) : [];
    for (const [format, kernel, most] of [...few, ...more, ...codes]) {
      const { n, k, dtype } = { n: 40, k: 2048, dtype: float16 } as const;
      const weight = testWeight(device, format, n, k, 5);
      const x = upload(device, randomArray(dtype, most * k, 6));
      const run = (m: number) => {
        const out = output(device, dtype, m * n);
        quantMatmul(device.stream, { out: out.ptr, x, weight: weight.data, m, n, k, dtype, kernel });
        return out.stored();
      };
      const all = run(most);
      for (const m of [1, 2, 7, 65, most - 1].filter((rows) => rows < most))
        expect(run(m)).toEqual(all.subarray(0, m * n));
    }
  });

  test.each(eachMany)("%s, %s: more rows than a fragment", (format, kernel) => {
    for (const dtype of dtypesOf(kernel)) {
      check({ format, kernel, dtype, m: 33, n: 150, k: 256, outDtype: float32 });
      const { choice } = check({ format, kernel, dtype, m: 70, n: 40, k: 1280 });
      expect(choice).toMatchObject({ kernel, splits: kernel === "wgmma" ? 5 : 2 }); // of five spans
    }
  });

  test.each(eachMany)(
    "%s, %s: many rows with bias, residual and gate, in one part of K and in two",
    (format, kernel) => {
      const dtype = float16;
      check({ format, kernel, dtype, m: 17, n: 18, k: 256, bias: true, residual: true });
      check({ format, kernel, dtype, m: 70, n: 75, k: 512, gate: "silu", gap: 8, outDtype: float32 });
      check({ format, kernel, dtype, m: 21, n: 9, k: 2048, gate: "gelu", bias: true, outDtype: float32 });
      check({ format, kernel, dtype, m: 21, n: 9, k: 2048, bias: true, residual: true, outDtype: float32 });
    },
  );

  test.each(many)("%s: 4-bit codes in other blocks, with nested absmax, of bfloat16 values", (kernel) => {
    const all = { format: "code4", kernel, dtype: float16, m: 20, n: 35, k: 576 } as const;
    for (const blockSize of [128, 4096]) check({ ...all, blockSize });
    check({ ...all, nested: true });
    if (kernel === "wmma") check({ ...all, nested: true, valueDType: bfloat16 });
  });

  test("a K that is too long for shared memory gives x through the cache", () => {
    if (capability < 80) return;
    const c = { format: "code4", kernel: "mma", dtype: float16, m: 16, n: 16, k: 6144, outDtype: float32 } as const;
    expect(check(c).choice).toMatchObject({ kernel: "mma", xRow: 0 });
  });

  const boxed = ggmlFormats.filter((format) => capability >= 90 && ggmlBoxes[format]);
  test.each(boxed)("%s by the copy engine", (format) => {
    const kernel = "bulk";
    for (const dtype of [float16, bfloat16]) {
      check({ format, kernel, dtype, m: 1, n: 37, k: 2048 });
      check({ format, kernel, dtype, m: 2, n: 20, k: 4096, outDtype: float32 });
      check({ format, kernel, dtype, m: 13, n: 20, k: 6144, outDtype: float32 });
      check({ format, kernel, dtype, m: 3, n: 18, k: 2048, bias: true, residual: true });
      check({ format, kernel, dtype, m: 5, n: 11, k: 2048, gate: "silu", gap: 8, outDtype: float32 });
      check({ format, kernel, dtype, m: 2, n: 8, k: 4096, gate: "gelu", bias: true, outDtype: float32 });
    }
  });

  test.each(quantFormats.filter((format) => hopper && wgmmaBoxes[format]))(
    "%s by the copy engine: many rows",
    (format) => {
      for (const dtype of [float16, bfloat16]) {
        const c = { format, kernel: "wgmma", dtype } as const;
        check({ ...c, m: 33, n: 150, k: 2048, outDtype: float32 });
        check({ ...c, m: 130, n: 40, k: 4096, outDtype: float32 });
        check({ ...c, m: 70, n: 18, k: 2048, bias: true, residual: true });
        check({ ...c, m: 129, n: 75, k: 2048, gate: "silu", gap: 8, outDtype: float32 });
        check({ ...c, m: 21, n: 9, k: 6144, gate: "gelu", bias: true, outDtype: float32 });
        check({ ...c, m: 40, n: 300, k: 2048 });
      }
    },
  );

  test.each(ggmlFormats)(
    "%s: sums come in the same order for few rows and for more, in one step of tiles and in several",
    (format) => {
      if (capability < 80) return;
      const machine = quantMachine(device);
      const [k, most, dtype] = [2048, 16, bfloat16];
      for (const bulk of [false, true].filter((way) => !way || boxed.includes(format))) {
        // So many tiles that their sums for 16 rows do not fit at once, where that is not too much to compute with.
        const steps = (rows: number) => ggmlBlock({ format, m: most, rows, k }, machine, bulk)!;
        const { parts, together } = steps(1 << 20);
        const n = machine.multiprocessors > 8 ? 200 : 16 * machine.multiprocessors * (together + parts) + 8;
        const weight = testWeight(device, format, n, k, 7);
        const x = upload(device, randomArray(dtype, most * k, 8));
        const run = (m: number) => {
          const out = output(device, dtype, m * n);
          const kernel = bulk ? "bulk" : "mma";
          quantMatmul(device.stream, { out: out.ptr, x, weight: weight.data, m, n, k, dtype, kernel });
          return out.stored();
        };
        const all = run(most);
        for (const m of [1, 2, 3, 8, 9]) expect(run(m)).toEqual(all.subarray(0, m * n));
      }
    },
  );

  test("4-bit codes in bulk copies: more tiles than blocks, and K in more spans than warps", () => {
    if (capability < 90) return;
    const c = { format: "code4", kernel: "bulk", dtype: bfloat16, outDtype: float32 } as const;
    const tiles = device.attributes.multiprocessors;
    for (const m of [3, 6, 16]) {
      check({ ...c, m, n: tiles * 16 * 17 + 5, k: 256 }); // two steps of 16 tiles, each another warp's
      check({ ...c, m, n: 90, k: 6144, nested: true });
      check({ ...c, m, n: tiles * 16 + 3, k: 5120 }); // x is loaded again
      check({ ...c, m, n: tiles * 8 + 5, k: 768, gate: "silu" });
    }
  });
});
