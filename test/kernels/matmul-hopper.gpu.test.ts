import { describe, expect, test } from "vitest";
import { bfloat16, type DType, float16, float32 } from "../../src/base/dtype.ts";
import type { Device } from "../../src/driver/device.ts";
import { gemmHopper } from "../../src/kernels/matmul/hopper.ts";
import { type HopperTileName, hopperRefusal, hopperTiles } from "../../src/kernels/matmul/hopper-choice.ts";
import type { MatmulParams } from "../../src/kernels/matmul/params.ts";
import { runnableTargets } from "../../src/kernels/target.ts";
import {
  describeGpu,
  gpu,
  output,
  randomArray,
  relativeL2,
  roundingTolerance,
  toNumbers,
  upload,
} from "../support/gpu.ts";

/**
 * Products of 16-bit floats are exact in float32; what is left is the tensor cores' float32 addition, which truncates:
 * a few 2^-23 for each of the up to 70 additions of 16 products here, most of it averaging out.
 */
const sumTolerance = 2 ** -17;

interface Case {
  m: number;
  n: number;
  k: number;
  dtype?: DType;
  outDtype?: DType;
  tile?: HopperTileName;
  /** Elements between rows of D beyond n. */
  gap?: number;
  bias?: boolean;
  residual?: "apart" | "in place";
  alpha?: number;
  gate?: "silu" | "gelu";
  /** Rows of D that the reference computes: all, or every so many. */
  every?: number;
  /** Rows of the A that this one's are the first of; by default its own. */
  alike?: number;
}

/** Runs one case and checks it against float64; returns the stored elements. Rows of A and B are padded with NaN. */
function check(device: Device, c: Case, seed = 1): ArrayLike<number | bigint> {
  const { m, n, k, dtype = bfloat16, every = 1 } = c;
  const outDtype = c.outDtype ?? dtype;
  const ld = Math.ceil(k / 8) * 8;
  const ldd = n + (c.gap ?? 0);
  const rowsB = c.gate ? 2 * n : n;
  const padded = (rows: number, seed: number) => {
    const values = randomArray(dtype, rows * ld, seed);
    for (let r = 0; r < rows; r++) for (let i = k; i < ld; i++) values[r * ld + i] = 0x7fff;
    return values;
  };
  const a = padded(c.alike ?? m, seed).slice(0, m * ld) as ReturnType<typeof padded>;
  const b = padded(rowsB, seed + 1);
  const bias = c.bias ? randomArray(dtype, rowsB, seed + 2) : undefined;
  const residual = c.residual ? randomArray(outDtype, m * ldd, seed + 3) : undefined;
  const out = output(device, outDtype, m * ldd, c.residual === "in place" ? residual : undefined);
  const params: MatmulParams = {
    out: out.ptr,
    a: upload(device, a),
    b: upload(device, b),
    m,
    n,
    k,
    dtype,
    outDtype,
    lda: ld,
    ldb: ld,
  };
  Object.assign(params, { ldd, transposeB: true });
  if (bias) params.bias = upload(device, bias);
  if (residual) params.residual = c.residual === "in place" ? out.ptr : upload(device, residual);
  if (c.alpha !== undefined) params.alpha = c.alpha;
  if (c.gate) params.gate = c.gate;
  if (c.tile) params.tile = c.tile;
  gemmHopper(device.stream, params);

  const stored = out.stored();
  const got = toNumbers(outDtype, stored);
  const [x, w] = [toNumbers(dtype, a), toNumbers(dtype, b)];
  const [offset, added] = [bias && toNumbers(dtype, bias), residual && toNumbers(outDtype, residual)];
  const dot = (i: number, j: number): number => {
    let sum = 0;
    for (let l = 0; l < k; l++) sum += x[i * ld + l]! * w[j * ld + l]!;
    return sum * (c.alpha ?? 1) + (offset ? offset[j]! : 0);
  };
  const actual: number[] = [];
  const expected: number[] = [];
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < ldd; j++) {
      const at = i * ldd + j;
      if (j >= n) {
        const kept = added && c.residual === "in place" ? Object.is(got[at], added[at]) : Number.isNaN(got[at]);
        if (!kept) throw new Error(`D[${i}, ${j}] past the row's end was written`);
      } else if (Number.isNaN(got[at])) {
        throw new Error(`D[${i}, ${j}] is NaN: not written, or computed from what lies past the edge`);
      } else if (i % every === 0 || i === m - 1) {
        let value = dot(i, j);
        if (c.gate === "silu") value = (value / (1 + Math.exp(-value))) * dot(i, n + j);
        if (c.gate === "gelu") {
          value =
            0.5 * value * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (value + 0.044715 * value ** 3))) * dot(i, n + j);
        }
        expected.push(value + (added ? added[at]! : 0));
        actual.push(got[at]!);
      }
    }
  }
  const rounding = outDtype === float32 ? 0 : roundingTolerance(outDtype);
  expect(relativeL2(actual, expected)).toBeLessThan(sumTolerance + rounding);
  return stored;
}

const probe = { a: 0n, b: 0n, out: 0n, m: 1, n: 1, k: 8, dtype: bfloat16, transposeB: true } as MatmulParams;
const missing = gpu
  ? hopperRefusal(probe, runnableTargets(gpu.attributes.capability, process.env.LLCUDA_TARGET))
  : undefined;
const name = "matmul on Hopper";
const suite = (define: (device: Device) => void): void => {
  if (!gpu || !missing) describeGpu(name, define);
  else describe.skip(`${name} [skipped: ${missing}]`, () => define(gpu as Device));
};
const tiles = Object.keys(hopperTiles) as HopperTileName[];
/** Those that take up to 128 rows, for which K is split: by eight, where it is long enough and these shapes are narrow. */
const fewRowTiles = tiles.filter((tile) => hopperTiles[tile].cluster === 1);

suite((device) => {
  const shapes: [m: number, n: number, k: number][] = [
    [1, 1, 1],
    [1, 8, 64],
    [3, 5, 17],
    [64, 64, 64],
    [65, 130, 72],
    [127, 255, 200],
    [128, 256, 1100],
    [257, 520, 584],
    [300, 264, 40],
  ];
  const cases = tiles.flatMap((tile) => [bfloat16, float16].map((dtype) => [tile, dtype.name, dtype] as const));
  test.each(cases)("%s %s: aligned, ragged and tiny shapes", (tile, _, dtype) => {
    for (const [m, n, k] of shapes) {
      if (m > 128 || fewRowTiles.includes(tile)) check(device, { m, n, k, dtype, tile }, m + n);
    }
    check(device, { m: 129, n: 72, k: 1100, dtype, tile });
  });

  test.each(fewRowTiles)("%s: parts of K, with every epilogue", (tile) => {
    for (const [m, n, k] of [
      [17, 200, 512], // 2 parts
      [33, 72, 1100], // 4
      [128, 130, 2056], // 8
      [100, 4300, 136], // 1
    ] as const) {
      check(device, { m, n, k, tile, every: 17 });
      check(device, { m, n: n + 3, k, tile, dtype: float16, bias: true, alpha: 0.5, gap: 2, every: 17 });
      check(device, { m, n, k, tile, residual: "in place", bias: true, every: 17 });
      check(device, { m, n: n + 1, k, tile, residual: "apart", outDtype: float32, gap: 1, every: 17 });
      if (hopperTiles[tile].cols < 128) continue;
      check(device, { m, n: n / 2, k, tile, gate: "silu", bias: true, every: 17 });
      check(device, { m, n: n / 2 + 3, k, tile, gate: "gelu", outDtype: float32, alpha: 0.05, every: 17 });
    }
  });

  test.each(tiles)("%s: more tiles than blocks, in every raster group", (tile) => {
    const { rows, cols } = hopperTiles[tile];
    check(device, { m: 20 * rows + 9, n: 19 * cols + 24, k: 136, tile, every: 173 });
    check(device, { m: 2 * rows + 1, n: 150 * cols - 8, k: 72, tile, every: 101 });
    check(device, { m: 150 * rows - 1, n: cols, k: 72, tile, every: 613 });
  });

  test.each(tiles)("%s: float32 and unaligned results, gaps between rows", (tile) => {
    check(device, { m: 130, n: 200, k: 96, tile, outDtype: float32 });
    check(device, { m: 130, n: 201, k: 96, tile, outDtype: float32, gap: 2 });
    check(device, { m: 130, n: 201, k: 96, tile, gap: 2 });
    check(device, { m: 130, n: 200, k: 96, tile, gap: 24 });
    check(device, { m: 130, n: 333, k: 96, tile, dtype: float16 });
  });

  test.each(tiles)("%s: alpha, bias and residual", (tile) => {
    for (const n of [200, 203]) {
      check(device, { m: 130, n, k: 96, tile, bias: true, alpha: 0.5 });
      check(device, { m: 130, n, k: 96, tile, residual: "apart" });
      check(device, { m: 130, n, k: 96, tile, residual: "in place", bias: true, gap: 1 });
      check(device, { m: 130, n, k: 96, tile, residual: "in place", outDtype: float32, dtype: float16 });
    }
  });

  test.each(tiles.filter((tile) => hopperTiles[tile].cols >= 128))("%s: gated", (tile) => {
    for (const n of [8, 200, 203, 512]) {
      check(device, { m: 130, n, k: 96, tile, gate: "silu" });
      check(device, { m: 140, n, k: 96, tile, gate: "gelu", bias: true, dtype: float16, alpha: 0.05 });
    }
    check(device, { m: 300, n: 90, k: 200, tile, gate: "silu", outDtype: float32, alpha: 0.1 });
  });

  test("every tile gives the same bits, so that results do not depend on how many rows there are", () => {
    const [first, ...rest] = tiles.map((tile) => check(device, { m: 200, n: 320, k: 1000, tile, outDtype: float32 }));
    for (const other of rest) expect(other).toEqual(first);
  });

  test("up to 128 rows, too, and a row has the bits that it has among fewer", () => {
    const shape = { n: 320, k: 2000, outDtype: float32 };
    const [first, ...rest] = fewRowTiles.map((tile) => check(device, { m: 128, ...shape, tile, every: 17 }));
    for (const other of rest) expect(other).toEqual(first);
    for (const m of [1, 17, 64, 65]) {
      const alone = check(device, { m, ...shape, alike: 128, every: 17 });
      expect(alone).toEqual((first as Float32Array).slice(0, m * shape.n));
    }
  });

  test("a product of halves has the bits that its gated form multiplies", () => {
    // 1 is what the activation of a large gate leaves of it: the ups come through as they are.
    for (const m of [40, 128]) {
      const [n, k] = [136, 1600];
      const halves = check(device, { m, n: 2 * n, k, outDtype: float32, every: 17 }) as Float32Array;
      const gated = check(device, { m, n, k, outDtype: float32, gate: "silu", every: 17 }) as Float32Array;
      for (let i = 0; i < m * n; i++) {
        const [row, column] = [Math.floor(i / n), i % n];
        const gate = halves[row * 2 * n + column]!;
        if (gate > 20) expect(gated[i]).toBe(Math.fround(gate * halves[row * 2 * n + n + column]!));
      }
    }
  });

  test("starts while the kernel before it still writes its input", () => {
    const [m, n, k] = [64, 1024, 1024];
    const weight = upload(device, randomArray(bfloat16, n * k, 1));
    const x = upload(device, randomArray(bfloat16, m * k, 2));
    const run = (overlap: boolean) => {
      const outs = Array.from({ length: 6 }, () => output(device, bfloat16, m * n));
      let a = x;
      for (const out of outs) {
        const p = { out: out.ptr, a, b: weight, m, n, k, dtype: bfloat16, transposeB: true, alpha: 0.02, overlap };
        gemmHopper(device.stream, p);
        a = out.ptr;
      }
      return outs.map((out) => out.stored());
    };
    const apart = run(false);
    for (let i = 0; i < 5; i++) expect(run(true)).toEqual(apart);
  });

  test("the chosen tile", () => {
    for (const m of [1, 60, 512]) check(device, { m, n: 1032, k: 264, every: 31 });
  });
});
