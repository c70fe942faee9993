import { expect, test } from "vitest";
import { bfloat16, type DType, float16, float32 } from "../../../src/base/dtype.ts";
import { encodeArray } from "../../../src/base/element.ts";
import { UnsupportedError } from "../../../src/base/errors.ts";
import { ptrAdd } from "../../../src/driver/api.ts";
import { deviceTargets } from "../../../src/kernels/library.ts";
import { type MatmulKernelName, type MatmulParams, matmul } from "../../../src/kernels/matmul/matmul.ts";
import { gemvMmaSharedBytes, type MmaTile, mmaSharedBytes, mmaTiles } from "../../../src/kernels/matmul/specs.ts";
import { targetNumber } from "../../../src/kernels/target.ts";
import { allocate, describeGpu, gpu, normals, output, relativeL2, toNumbers, upload } from "../../support/gpu.ts";

interface Case {
  m: number;
  n: number;
  k: number;
  dtype: DType;
  kernel?: MatmulKernelName;
  tile?: string;
  outDtype?: DType;
  transposeA?: boolean;
  transposeB?: boolean;
  /** Elements that stored rows are longer than the matrix. */
  pad?: number;
  /** Elements by which A and B start past an aligned address. */
  offset?: number;
  batch?: number;
  shareB?: boolean;
  alpha?: number;
  beta?: number;
  bias?: boolean;
  residual?: boolean;
  gate?: "silu" | "gelu";
}

/**
 * Outputs are rounded once: half a unit in the last place, 2^-9 for bf16 and 2^-12 for f16 at worst, relative to each
 * element and so to the norm. Sums of K terms in float32 err by some sqrt(K) * 2^-24; both bounds are doubled.
 */
function tolerance(out: DType, k: number): number {
  const rounding = out === bfloat16 ? 2 ** -8 : out === float16 ? 2 ** -11 : 0;
  return rounding + 2e-7 * Math.sqrt(Math.max(1, k)) + 1e-6;
}

const target = gpu ? targetNumber(deviceTargets(gpu)[0]!) : 0;
const needs: Partial<Record<MatmulKernelName, number>> = { gemv_mma: 80, mma: 80, wmma: 70 };
/** Tiles of gemv_mma that this GPU has the shared memory for. */
const rings =
  target >= 90 && gpu!.attributes.sharedPerBlockOptin >= gemvMmaSharedBytes("32", "16") ? ["16", "32", "deep"] : ["16"];

/** The same of mma. */
const tiles = (Object.keys(mmaTiles) as MmaTile[]).filter(
  (tile) => !gpu || mmaSharedBytes(tile) <= gpu.attributes.sharedPerBlockOptin,
);

describeGpu("matmul", (device) => {
  function run(c: Case): { actual: Float64Array; expected: Float64Array; out: DType } {
    const { m, n, k, dtype, pad = 0, offset = 0, batch = 1, alpha = 1, beta = 0 } = c;
    const out = c.outDtype ?? dtype;
    const halves = c.gate ? 2 : 1;
    const [rowsA, colsA] = c.transposeA ? [k, m] : [m, k];
    const [rowsB, colsB] = c.transposeB ? [halves * n, k] : [k, halves * n];
    const [lda, ldb, ldd] = [colsA + pad, colsB + pad, n + pad];
    const strides = { a: rowsA * lda, b: c.shareB ? 0 : rowsB * ldb, out: m * ldd };
    const store = (count: number, seed: number, type: DType) => encodeArray(type, normals(count, seed));
    const hostA = store(batch * rowsA * lda + offset, 1, dtype);
    const hostB = store((c.shareB ? 1 : batch) * rowsB * ldb + offset, 2, dtype);
    const hostBias = store(halves * n, 3, dtype);
    const hostAdded = store(batch * strides.out, 4, out);
    const at = (host: typeof hostA) => ptrAdd(upload(device, host), offset * dtype.bytes);
    const d = output(device, out, batch * strides.out, beta ? hostAdded : undefined);
    const p: MatmulParams = { out: d.ptr, a: at(hostA), b: at(hostB), m, n, k, dtype, outDtype: out, lda, ldb, ldd };
    Object.assign(p, { alpha, beta, batch, batchStrides: strides, backend: "own" });
    for (const key of ["kernel", "tile", "transposeA", "transposeB", "gate"] as const) {
      if (c[key] !== undefined) Object.assign(p, { [key]: c[key] });
    }
    if (c.bias) p.bias = upload(device, hostBias);
    if (c.residual) p.residual = upload(device, hostAdded);
    matmul(device.stream, p);

    const [a, b] = [toNumbers(dtype, hostA).subarray(offset), toNumbers(dtype, hostB).subarray(offset)];
    const [bias, added, stored] = [toNumbers(dtype, hostBias), toNumbers(out, hostAdded), d.numbers()];
    const actual = new Float64Array(batch * m * n);
    const expected = new Float64Array(batch * m * n);
    const row = new Float64Array(k);
    for (let z = 0; z < batch; z++) {
      for (let i = 0; i < m; i++) {
        for (let l = 0; l < k; l++) row[l] = a[z * strides.a + (c.transposeA ? l * lda + i : i * lda + l)]!;
        for (let j = 0; j < n; j++) {
          const value = (column: number): number => {
            let sum = 0;
            const [first, step] = c.transposeB ? [column * ldb, 1] : [column, ldb];
            for (let l = 0; l < k; l++) sum += row[l]! * b[z * strides.b + first + l * step]!;
            return alpha * sum + (c.bias ? bias[column]! : 0);
          };
          const index = z * strides.out + i * ldd + j;
          const to = (z * m + i) * n + j;
          actual[to] = stored[index]!;
          expected[to] = c.gate
            ? activate(c.gate, value(j)) * value(n + j)
            : value(j) + (beta ? beta * added[index]! : 0) + (c.residual ? added[index]! : 0);
        }
      }
    }
    return { actual, expected, out };
  }

  function activate(gate: "silu" | "gelu", x: number): number {
    if (gate === "silu") return x / (1 + Math.exp(-x));
    return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
  }

  function check(c: Case): void {
    const kernel = c.kernel ? (needs[c.kernel] ?? 0) : 0;
    const name = Object.entries(c)
      .map(([key, value]) => `${key} ${typeof value === "object" ? (value as DType).short : value}`)
      .join(", ");
    test.skipIf(kernel > target)(name, () => {
      const { actual, expected, out } = run(c);
      // A gate multiplies two sums: their errors add.
      expect(relativeL2(actual, expected)).toBeLessThan(tolerance(out, c.k) * (c.gate ? 2 : 1));
    });
  }

  const sizes: [number, number, number][] = [
    [1, 1, 1],
    [3, 17, 33],
    [17, 33, 129],
    [33, 129, 257],
    [129, 257, 65],
    [257, 3, 17],
    [1000, 77, 513],
  ];

  for (const dtype of [float32, float16, bfloat16]) {
    for (const tile of ["t128", "t64", "t32"]) {
      const simt = { dtype, kernel: "simt", tile } as const;
      for (const [m, n, k] of sizes) check({ m, n, k, ...simt, transposeB: true });
      for (const transposeA of [false, true]) {
        for (const transposeB of [false, true]) {
          check({ m: 70, n: 45, k: 37, ...simt, transposeA, transposeB, offset: 1, pad: 5, bias: true });
          check({ m: 36, n: 72, k: 40, ...simt, transposeA, transposeB, pad: 8, residual: true, alpha: 0.5 });
        }
      }
      check({ m: 20, n: 50, k: 64, ...simt, transposeB: true, gate: "silu", bias: true, alpha: 0.1 });
      check({ m: 20, n: 51, k: 64, ...simt, gate: "gelu", alpha: 0.1, outDtype: float32 });
      check({ m: 5, n: 9, k: 0, ...simt, bias: true, residual: true, beta: 2 });
    }

    for (const m of [1, 2, 3, 4, 5, 6, 7, 8]) {
      check({ m, n: 129, k: 1000, dtype, kernel: "gemv", transposeB: true });
      check({
        m,
        n: 18,
        k: 77,
        dtype,
        kernel: "gemv",
        transposeB: true,
        offset: 1,
        pad: 3,
        bias: true,
        residual: true,
      });
    }
    check({ m: 1, n: 260, k: 4096, dtype, kernel: "gemv", transposeB: true, outDtype: float32 });
    for (const gate of ["silu", "gelu"] as const) {
      check({ m: 3, n: 37, k: 1032, dtype, kernel: "gemv", transposeB: true, gate, bias: true, alpha: 0.03 });
    }
    check({ m: 4, n: 24, k: 40, dtype, kernel: "gemv", transposeB: true, batch: 3, shareB: true, beta: 0.5 });
    check({ m: 30, n: 40, k: 24, dtype, batch: 4, transposeB: true, beta: 1, residual: true });
    check({ m: 30, n: 40, k: 24, dtype, batch: 3, shareB: true });
    for (const m of [1, 9, 40, 200]) check({ m, n: 264, k: 520, dtype, transposeB: true, bias: true });
  }

  for (const dtype of [float16, bfloat16]) {
    for (const m of [1, 2, 3, 7, 8, 9, 15, 16]) {
      check({ m, n: 129, k: 1000, dtype, kernel: "gemv_mma", transposeB: true, bias: true });
      check({
        m,
        n: 20,
        k: 77,
        dtype,
        kernel: "gemv_mma",
        transposeB: true,
        pad: 3,
        residual: true,
        outDtype: float32,
      });
    }
    for (const gate of ["silu", "gelu"] as const) {
      check({ m: 11, n: 37, k: 1032, dtype, kernel: "gemv_mma", transposeB: true, gate, bias: true, alpha: 0.03 });
    }
    // Blocks that take several tiles each (some 132 multiprocessors), rings that go on from one to the next.
    for (const tile of rings) {
      const ring = { dtype, kernel: "gemv_mma", tile, transposeB: true } as const;
      for (const m of [1, 5, 13]) {
        check({ m, n: 9001, k: 200, ...ring, bias: true });
        check({ m, n: 5000, k: 77, ...ring, pad: 3, gate: "silu", alpha: 0.1 });
        check({ m, n: 40, k: 2568, ...ring, residual: true, outDtype: float32 });
      }
      check({ m: 3, n: 24, k: 40, ...ring, batch: 3, shareB: true, beta: 0.5 });
    }
    // K in parts, which a second kernel adds up.
    const parts = { dtype, kernel: "mma", transposeB: true } as const;
    check({ m: 20, n: 72, k: 2048, ...parts, pad: 8, bias: true, residual: true, alpha: 0.5 });
    check({ m: 70, n: 43, k: 1024, ...parts, beta: 0.5 });
    check({ m: 100, n: 40, k: 1024, ...parts, outDtype: float32, gate: "silu", bias: true, alpha: 0.05 });
    for (const transposeB of [true, false]) {
      for (const tile of tiles) {
        if (!transposeB && tile !== "t128x128" && tile !== "t64x64") continue;
        const mma = { dtype, kernel: "mma", tile, transposeB } as const;
        check({ m: 129, n: 264, k: 520, ...mma, bias: true, residual: true });
        check({ m: 300, n: 600, k: 72, ...mma, outDtype: float32 });
        check({ m: 17, n: 1, k: 1, ...mma, pad: 7 });
        check({ m: 40, n: 48, k: 1024, ...mma, batch: 3, shareB: true, beta: 1 });
        check({ m: 33, n: 104, k: 96, ...mma, pad: 8, gate: "silu", bias: true, alpha: 0.1 });
      }
    }
  }
  for (const tile of ["t128", "t64"]) {
    for (const transposeB of [true, false]) {
      const wmma = { dtype: float16, kernel: "wmma", tile, transposeB } as const;
      for (const [m, n, k] of sizes) check({ m, n, k, ...wmma });
      check({ m: 65, n: 72, k: 40, ...wmma, offset: 1, pad: 1, bias: true });
      check({ m: 40, n: 50, k: 64, ...wmma, gate: "gelu", alpha: 0.1 });
    }
  }

  for (const kernel of ["gemv", "gemv_mma"] as const) {
    const dtypes = kernel === "gemv" ? [float32, float16, bfloat16] : [float16, bfloat16];
    for (const dtype of dtypes) {
      test.skipIf((needs[kernel] ?? 0) > target)(`${kernel} ${dtype.short}: a row's bits do not depend on M`, () => {
        const [n, k] = [200, 2056];
        const a = upload(device, encodeArray(dtype, normals(16 * k, 5)));
        const b = upload(device, encodeArray(dtype, normals(n * k, 6)));
        const rows = (m: number) => {
          const d = output(device, dtype, m * n);
          matmul(device.stream, { out: d.ptr, a, b, m, n, k, dtype, transposeB: true, kernel });
          return d.stored();
        };
        const most = kernel === "gemv" ? 8 : 16;
        const all = rows(most);
        for (let m = 1; m < most; m++) expect(rows(m)).toEqual(all.slice(0, m * n));
      });
    }
  }

  for (const dtype of [float16, bfloat16]) {
    test.skipIf(target < 80)(
      `mma ${dtype.short}: tiles with one warp along K give a row the same bits, parts of K or not`,
      () => {
        const n = 72;
        for (const k of [2048, 1000]) {
          const a = upload(device, encodeArray(dtype, normals(256 * k, 5)));
          const b = upload(device, encodeArray(dtype, normals(n * k, 6)));
          const rows = (m: number, tile: MmaTile) => {
            const d = output(device, float32, m * n);
            const p: MatmulParams = { out: d.ptr, a, b, m, n, k, dtype, outDtype: float32, transposeB: true };
            matmul(device.stream, { ...p, kernel: "mma", tile });
            return d.stored();
          };
          for (const most of [128, 256]) {
            const all = rows(most, "t64x64");
            for (const m of [most / 2 + 1, most]) expect(rows(m, "t128x128")).toEqual(all.slice(0, m * n));
            if (most === 128) expect(rows(20, "t64x64")).toEqual(all.slice(0, 20 * n));
          }
        }
      },
    );
  }

  test("nothing to do, and what a forced kernel cannot do", () => {
    const a = allocate(device, 4096);
    const p: MatmulParams = { out: a, a, b: a, m: 0, n: 4, k: 4, dtype: float32 };
    matmul(device.stream, p);
    matmul(device.stream, { ...p, m: 4, n: 0 });
    expect(() => matmul(device.stream, { ...p, m: 9, n: 4, transposeB: true, kernel: "gemv" })).toThrow(
      UnsupportedError,
    );
    expect(() => matmul(device.stream, { ...p, m: 4, n: 4, kernel: "mma" })).toThrow(/float16 and bfloat16/);
    expect(() => matmul(device.stream, { ...p, m: 4, n: 4, kernel: "simt", tile: "t7" })).toThrow(/t128, t64, t32/);
  });
});
