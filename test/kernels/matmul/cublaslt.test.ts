import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bfloat16, float16, float32 } from "../../../src/base/dtype.ts";
import type { DevicePtr } from "../../../src/driver/api.ts";
import { Device } from "../../../src/driver/device.ts";
import type { NativeLibrary } from "../../../src/ffi/engine.ts";
import { ffiEngine } from "../../../src/ffi/select.ts";
import { CublasLt, toProblem, workspaceBytes } from "../../../src/kernels/matmul/cublaslt.ts";
import type { MatmulParams } from "../../../src/kernels/matmul/params.ts";
import { FakeDriver } from "../../driver/fake-driver.ts";
import { NativeStub, noCompiler } from "../../support/native.ts";
import { random } from "../../support/numerics.ts";

const base: MatmulParams = {
  out: 0x1000n as DevicePtr,
  a: 0x2010n as DevicePtr,
  b: 0x3004n as DevicePtr,
  m: 3,
  n: 5,
  k: 7,
  dtype: bfloat16,
};

describe("what cuBLASLt is asked for", () => {
  test("defaults: dense rows, float32 sums, the alignment of each address", () => {
    expect(toProblem(base, false)).toEqual({
      m: 3,
      n: 5,
      k: 7,
      input: "bf16",
      output: "bf16",
      compute: 68,
      transposeA: false,
      transposeB: false,
      lda: 7,
      ldb: 5,
      ldc: 5,
      ldd: 5,
      batch: 1,
      strideA: 0,
      strideB: 0,
      strideC: 0,
      strideD: 0,
      bias: false,
      alignments: [4, 16, 256, 256],
    });
    expect(toProblem({ ...base, transposeA: true, transposeB: true }, false)).toMatchObject({ lda: 3, ldb: 7 });
  });

  test("TF32 only for float32, and only when asked", () => {
    expect(toProblem({ ...base, dtype: float32 }, false)?.compute).toBe(68);
    expect(toProblem({ ...base, dtype: float32 }, true)?.compute).toBe(77);
    expect(toProblem({ ...base, dtype: float16 }, true)?.compute).toBe(68);
  });

  test("what it cannot express is left to the project's own kernels", () => {
    const bias = 0x4000n as DevicePtr;
    expect(toProblem({ ...base, k: 0 }, false)).toBe(undefined);
    expect(toProblem({ ...base, gate: "silu" }, false)).toBe(undefined);
    expect(toProblem({ ...base, residual: bias, beta: 0.5 }, false)).toBe(undefined);
    expect(toProblem({ ...base, bias, outDtype: float32 }, false)).toBe(undefined);
    expect(toProblem({ ...base, bias }, false)?.alignments.length).toBe(5);
  });

  test("the workspace that NVIDIA recommends", () => {
    expect([workspaceBytes(80), workspaceBytes(90), workspaceBytes(120)]).toEqual([4 << 20, 32 << 20, 32 << 20]);
  });
});

describe(`CublasLt on a library that computes on the CPU${noCompiler === undefined ? "" : ` (skipped: ${noCompiler})`}`, () => {
  const testHere = test.skipIf(noCompiler !== undefined);
  const engine = ffiEngine();
  let fake: FakeDriver;
  let stub: NativeStub;
  let library: NativeLibrary;
  let device: Device;
  let lt: CublasLt;
  const keep: ArrayBuffer[] = [];

  beforeAll(() => {
    if (noCompiler !== undefined) return;
    fake = new FakeDriver(engine);
    stub = new NativeStub();
    library = engine.open(stub.build("kernels/matmul/fake-cublaslt.c", "libfake-cublaslt.so"));
    device = new Device(fake.api(), 0, "cuda:0");
    lt = new CublasLt(device, library, engine);
  });
  afterAll(() => {
    stub?.remove();
    fake?.dispose();
  });

  const count = (symbol: string): number => library.bind(symbol, "i32", [])!() as number;

  /** Random floats at an address that the fake library can read. */
  function floats(length: number, seed: number): { ptr: DevicePtr; data: Float32Array } {
    const block = engine.alloc(length * 4 + 256);
    keep.push(block.buffer);
    // 256-byte aligned, as device memory is: plans differ by alignment.
    const skip = Number(-block.address & 0xffn);
    const data = new Float32Array(block.buffer, skip, length);
    const next = random(seed);
    for (let i = 0; i < length; i++) data[i] = Math.fround(next() - 0.5);
    return { ptr: (block.address + BigInt(skip)) as DevicePtr, data };
  }

  interface Case {
    m: number;
    n: number;
    k: number;
    transposeA?: boolean;
    transposeB?: boolean;
    pad?: number;
    batch?: number;
    bias?: boolean;
    alpha?: number;
    beta?: number;
    residual?: boolean;
  }

  /** Largest difference from a float64 row-major reference. */
  function largestError(c: Case): number {
    const { m, n, k, pad = 0, batch = 1, alpha = 1, beta = 0 } = c;
    const lda = (c.transposeA ? m : k) + pad;
    const ldb = (c.transposeB ? k : n) + 2 * pad;
    const ldd = n + 3 * pad;
    const strides = { a: lda * (c.transposeA ? k : m), b: ldb * (c.transposeB ? n : k), out: ldd * m };
    const a = floats(strides.a * batch, 1);
    const b = floats(strides.b * batch, 2);
    const out = floats(strides.out * batch, 3);
    const bias = floats(n, 4);
    const residual = floats(strides.out * batch, 5);
    const before = out.data.slice();
    const p: MatmulParams = { out: out.ptr, a: a.ptr, b: b.ptr, m, n, k, dtype: float32, lda, ldb, ldd, alpha, beta };
    if (c.transposeA) p.transposeA = true;
    if (c.transposeB) p.transposeB = true;
    if (batch > 1) Object.assign(p, { batch, batchStrides: strides });
    if (c.bias) p.bias = bias.ptr;
    if (c.residual) p.residual = residual.ptr;
    expect(lt.matmul(device.stream, p)).toBe(true);

    let worst = 0;
    for (let z = 0; z < batch; z++) {
      for (let i = 0; i < m; i++) {
        for (let j = 0; j < ldd; j++) {
          const at = z * strides.out + i * ldd + j;
          let expected = before[at]!;
          if (j < n) {
            let sum = 0;
            for (let l = 0; l < k; l++) {
              const x = a.data[z * strides.a + (c.transposeA ? l * lda + i : i * lda + l)]!;
              const y = b.data[z * strides.b + (c.transposeB ? j * ldb + l : l * ldb + j)]!;
              sum += x * y;
            }
            expected =
              alpha * sum + beta * expected + (c.bias ? bias.data[j]! : 0) + (c.residual ? residual.data[at]! : 0);
          }
          worst = Math.max(worst, Math.abs(out.data[at]! - expected));
        }
      }
    }
    return worst;
  }

  // Sums of at most 33 products below 1/4, in float32.
  const tolerance = 1e-5;

  test.skipIf(noCompiler !== undefined).each<Case>([
    { m: 1, n: 1, k: 1 },
    { m: 3, n: 5, k: 7 },
    { m: 3, n: 5, k: 7, transposeB: true },
    { m: 4, n: 2, k: 33, transposeA: true },
    { m: 6, n: 9, k: 5, transposeA: true, transposeB: true },
    { m: 7, n: 3, k: 8, pad: 3 },
    { m: 7, n: 3, k: 8, pad: 2, transposeA: true, transposeB: true },
    { m: 2, n: 3, k: 4, batch: 3, pad: 1 },
    { m: 5, n: 4, k: 3, bias: true, transposeB: true },
    { m: 5, n: 4, k: 3, alpha: -0.5, beta: 2 },
    { m: 5, n: 4, k: 3, residual: true, bias: true, pad: 1 },
    { m: 2, n: 3, k: 4, batch: 2, residual: true },
  ])("row-major products come out right: %o", (c) => {
    expect(largestError(c)).toBeLessThan(tolerance);
  });

  testHere("the heuristic is asked once per problem, with the workspace and float32 split-K sums", () => {
    const c = { m: 11, n: 12, k: 13, transposeB: true };
    const before = count("fake_heuristics");
    largestError(c);
    largestError(c);
    expect(count("fake_heuristics")).toBe(before + 1);
    const seen = new DataView(engine.view(library.bind("fake_preference", "ptr", [])!() as bigint, 32));
    expect(seen.getBigUint64(0, true)).toBe(32n << 20n);
    expect(seen.getUint32(8, true)).toBe(2);
    expect(count("fake_compute")).toBe(68);
  });

  testHere("a problem without an algorithm is declined, once; a real failure is an error", () => {
    const p: MatmulParams = { ...base, m: 17, dtype: float32 };
    const refuse = library.bind("fake_refuse", "void", ["i32"])!;
    const before = count("fake_heuristics");
    const live = count("fake_live");
    refuse(15);
    expect(lt.matmul(device.stream, p)).toBe(false);
    refuse(0);
    expect(lt.matmul(device.stream, p)).toBe(false);
    expect(count("fake_heuristics")).toBe(before + 1);
    expect(count("fake_live")).toBe(live);
    refuse(14);
    expect(() => lt.matmul(device.stream, { ...p, m: 18 })).toThrow(
      /cublasLtMatmulAlgoGetHeuristic: CUBLAS_STATUS_INTERNAL_ERROR \(14\)/,
    );
    refuse(0);
    expect(count("fake_live")).toBe(live);
  });

  testHere("nothing to compute is done at once", () => {
    expect(lt.matmul(device.stream, { ...base, m: 0 })).toBe(true);
    expect(lt.version).toBe(130100);
  });

  testHere("thousands of shapes do not accumulate, and dispose leaves nothing behind", () => {
    const other = new CublasLt(device, library, engine);
    const x = floats(4, 1).ptr;
    const before = count("fake_live");
    for (let ld = 1; ld <= 1500; ld++) {
      other.matmul(device.stream, { out: x, a: x, b: x, m: 1, n: 1, k: 1, dtype: float32, ldd: ld });
    }
    expect(count("fake_live") - before).toBe(1024 * 5);
    other.dispose();
    expect(count("fake_live")).toBe(before - 1);
  });
});
