import { beforeAll, expect, test } from "vitest";
import { bfloat16, type DType, float16, float32 } from "../../../src/base/dtype.ts";
import { CublasLt } from "../../../src/kernels/matmul/cublaslt.ts";
import type { MatmulParams } from "../../../src/kernels/matmul/params.ts";
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

interface Case {
  m: number;
  n: number;
  k: number;
  dtype: DType;
  outDtype?: DType;
  transposeA?: boolean;
  transposeB?: boolean;
  batch?: number;
  bias?: boolean;
  residual?: boolean;
  beta?: number;
  captured?: boolean;
}

const installed = gpu !== undefined && CublasLt.open(gpu) !== undefined;
const why = gpu && !installed ? ` [skipped: ${CublasLt.explain(gpu)}]` : "";

describeGpu(`cuBLASLt${why}`, (device) => {
  let lt: CublasLt;
  beforeAll(() => {
    if (installed) lt = CublasLt.open(device) as CublasLt;
  });

  const cases: Case[] = [];
  for (const dtype of [bfloat16, float16, float32]) {
    cases.push(
      { m: 1, n: 64, k: 128, dtype, transposeB: true },
      { m: 37, n: 72, k: 264, dtype, transposeB: true, bias: true },
      { m: 64, n: 40, k: 96, dtype },
      { m: 24, n: 56, k: 80, dtype, transposeA: true },
      { m: 16, n: 48, k: 32, dtype, batch: 3, transposeB: true },
      { m: 33, n: 128, k: 64, dtype, transposeB: true, residual: true },
      { m: 40, n: 64, k: 64, dtype, transposeB: true, beta: 1, captured: true },
    );
  }
  cases.push({ m: 48, n: 64, k: 4096, dtype: bfloat16, outDtype: float32, transposeB: true });

  const describeCase = (c: Case): string =>
    Object.entries(c)
      .map(([key, value]) => `${key} ${typeof value === "object" ? (value as DType).short : value}`)
      .join(", ");

  for (const c of cases) {
    test.skipIf(!installed)(describeCase(c), () => {
      const { m, n, k, dtype, batch = 1 } = c;
      const outDtype = c.outDtype ?? dtype;
      const a = randomArray(dtype, batch * m * k, 1);
      const b = randomArray(dtype, batch * k * n, 2);
      const bias = randomArray(dtype, n, 3);
      const added = randomArray(outDtype, batch * m * n, 4);
      const out = output(device, outDtype, batch * m * n, c.beta ? added : undefined);
      const p: MatmulParams = { out: out.ptr, a: upload(device, a), b: upload(device, b), m, n, k, dtype, outDtype };
      if (c.transposeA) p.transposeA = true;
      if (c.transposeB) p.transposeB = true;
      if (c.batch) Object.assign(p, { batch, batchStrides: { a: m * k, b: k * n, out: m * n } });
      if (c.bias) p.bias = upload(device, bias);
      if (c.residual) p.residual = upload(device, added);
      if (c.beta) p.beta = c.beta;

      if (c.captured) {
        using graph = device.stream.capture(() => expect(lt.matmul(device.stream, p)).toBe(true));
        using exec = graph.instantiate();
        exec.launch(device.stream);
        device.stream.synchronize();
      } else {
        expect(lt.matmul(device.stream, p)).toBe(true);
      }

      const [x, y] = [toNumbers(dtype, a), toNumbers(dtype, b)];
      const [z, r] = [toNumbers(dtype, bias), toNumbers(outDtype, added)];
      const expected = new Float64Array(batch * m * n);
      for (let s = 0; s < batch; s++) {
        for (let i = 0; i < m; i++) {
          for (let j = 0; j < n; j++) {
            let sum = 0;
            for (let l = 0; l < k; l++) {
              const left = x[s * m * k + (c.transposeA ? l * m + i : i * k + l)]!;
              const right = y[s * k * n + (c.transposeB ? j * k + l : l * n + j)]!;
              sum += left * right;
            }
            const at = s * m * n + i * n + j;
            expected[at] = sum + (c.bias ? z[j]! : 0) + (c.residual || c.beta ? r[at]! : 0);
          }
        }
      }
      // Beside the rounding of the result: float32 sums of up to 4096 products, and tensor cores truncate when they add.
      expect(relativeL2(out.numbers(), expected)).toBeLessThan(roundingTolerance(outDtype) + 2 ** -16);
    });
  }
});
