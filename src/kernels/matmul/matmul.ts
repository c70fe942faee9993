import { float32 } from "../../base/dtype.ts";
import { ArgumentError, UnsupportedError } from "../../base/errors.ts";
import { nullPtr, ptrAdd } from "../../driver/api.ts";
import type { Device } from "../../driver/device.ts";
import type { Stream } from "../../driver/stream.ts";
import { floatVariant } from "../float-variant.ts";
import { deviceTargets, type KernelShape, launch } from "../library.ts";
import type { ArgValues } from "../spec.ts";
import { targetNumber } from "../target.ts";
import {
  chooseMatmul,
  chooseWithin,
  gemvColumns,
  gemvMmaFits,
  kernelRefusal,
  type MatmulChoice,
  type MatmulMachine,
  type MatmulShape,
} from "./choose.ts";
import { CublasLt, toProblem } from "./cublaslt.ts";
import { gemmHopper } from "./hopper.ts";
import { hopperSupports } from "./hopper-choice.ts";
import type { MatmulKernelName, MatmulParams } from "./params.ts";
import {
  combineKernel,
  gemvKernel,
  gemvMmaKernel,
  gemvMmaResident,
  gemvMmaSharedBytes,
  gemvMmaThreads,
  gemvMmaTileRows,
  gemvMmaTiles,
  matmulFlags,
  mmaKernel,
  mmaSharedBytes,
  mmaTiles,
  simtKernel,
  simtTiles,
  wmmaKernel,
  wmmaTiles,
} from "./specs.ts";

export type { MatmulKernelName, MatmulParams } from "./params.ts";

/** Batches of one launch: the limit of grid.z. */
const batchesPerLaunch = 65535;

/** MatmulParams with every default filled in. */
interface Resolved extends MatmulShape {
  readonly p: MatmulParams;
  readonly lda: number;
  readonly ldb: number;
  readonly ldd: number;
  readonly ldr: number;
  readonly strideA: number;
  readonly strideB: number;
  readonly strideD: number;
  readonly strideR: number;
}

/**
 * Computes the product that `p` describes (see MatmulParams) on `stream`, with the kernel that suits its shape, or with
 * `p.kernel`. Throws UnsupportedError when that one cannot, DTypeError for a dtype that is not float.
 */
export function matmul(stream: Stream, p: MatmulParams): void {
  if (p.m === 0 || p.n === 0 || p.batch === 0) return;
  const problem = resolve(p);
  const machine = machineFor(stream.device, p);
  let choice = choose(stream.device, problem, machine);
  if (choice.kernel === "cublaslt") {
    if (CublasLt.open(stream.device)?.matmul(stream, p)) return;
    // It has no algorithm for this problem.
    const without = { ...machine, cublaslt: false };
    if (p.kernel === "cublaslt" || p.backend === "cublaslt") refuse("cublaslt", stream.device, problem, without);
    choice = chooseMatmul(problem, without);
  }
  if (choice.kernel === "hopper") {
    gemmHopper(stream, p);
    return;
  }
  for (let first = 0; first < problem.batch; first += batchesPerLaunch) {
    launchBatches(stream, problem, choice, first, Math.min(batchesPerLaunch, problem.batch - first));
  }
}

/** The kernel that `matmul` would use, for reports and benchmarks. */
export function matmulChoice(device: Device, p: MatmulParams): MatmulChoice {
  return choose(device, resolve(p), machineFor(device, p));
}

function choose(device: Device, problem: Resolved, machine: MatmulMachine): MatmulChoice {
  const { p } = problem;
  const wanted: MatmulKernelName | undefined = p.kernel ?? (p.backend === "cublaslt" ? "cublaslt" : undefined);
  if (wanted === undefined) return chooseMatmul(problem, machine);
  if (kernelRefusal(wanted, problem, machine)) refuse(wanted, device, problem, machine);
  const choice = chooseWithin(wanted, problem, machine, p.tile);
  if (p.tile !== undefined && wanted !== "hopper") checkTile(choice, problem, machine, p.tile);
  return choice;
}

function refuse(kernel: MatmulKernelName, device: Device, problem: Resolved, machine: MatmulMachine): never {
  const { m, n, k, dtype } = problem;
  const reason = kernelRefusal(kernel, problem, machine);
  throw new UnsupportedError(
    `matmul: the kernel "${kernel}" cannot compute a ${dtype} product of M = ${m}, N = ${n}, K = ${k} on ${device.name}: ${reason}`,
  );
}

function checkTile(choice: MatmulChoice, problem: Resolved, machine: MatmulMachine, tile: string): void {
  const known =
    choice.kernel === "mma"
      ? Object.keys(mmaTiles).filter((t) => problem.transposeB || t === "t128x128" || t === "t64x64")
      : choice.kernel === "wmma"
        ? Object.keys(wmmaTiles)
        : choice.kernel === "simt"
          ? Object.keys(simtTiles)
          : choice.kernel === "gemv_mma"
            ? gemvMmaTiles.filter((t) => gemvMmaFits(t, choice.rows, machine))
            : [];
  if (known.includes(tile)) return;
  throw new ArgumentError(
    `matmul: the kernel "${choice.kernel}" has no tile "${tile}" for this product; ${
      known.length ? `use ${known.join(", ")}` : "leave it out"
    }`,
  );
}

function machineFor(device: Device, p: MatmulParams): MatmulMachine {
  const targets = deviceTargets(device);
  const { multiprocessors, sharedPerBlockOptin } = device.attributes;
  // Looking for the library takes time at the first call, so only where it would be used.
  const askCublas =
    p.backend !== "own" && (p.kernel ?? "cublaslt") === "cublaslt" && (p.kernel !== undefined || p.m > 8);
  return {
    capability: targetNumber(targets[0]!),
    multiprocessors,
    sharedBytes: sharedPerBlockOptin,
    hopper: hopperSupports(p, targets),
    cublaslt: askCublas && toProblem(p, false) !== undefined && CublasLt.open(device) !== undefined,
  };
}

/** Fills in defaults. A is taken as [M, K] where one row stored as a column is the same memory. */
function resolve(p: MatmulParams): Resolved {
  const { m, n, k, dtype: type } = p;
  const { dtype } = floatVariant("matmul", type);
  const gated = p.gate !== undefined;
  const width = gated ? 2 * n : n;
  const storedLda = p.lda ?? (p.transposeA ? m : k);
  const transposeA = p.transposeA === true && !(m === 1 && storedLda === 1);
  const transposeB = p.transposeB === true;
  const lda = p.transposeA && !transposeA ? k : storedLda;
  const ldb = p.ldb ?? (transposeB ? k : width);
  const ldd = p.ldd ?? n;
  const ldr = p.ldResidual ?? ldd;
  const batch = p.batch ?? 1;
  const strideA = p.batchStrides?.a ?? (transposeA ? k : m) * lda;
  const strideB = p.batchStrides?.b ?? (transposeB ? width : k) * ldb;
  const strideD = p.batchStrides?.out ?? m * ldd;
  const strideR = p.batchStrides?.residual ?? strideD;
  const aligned = (address: bigint, ...elements: number[]): boolean =>
    (address & 15n) === 0n && elements.every((e) => (e * type.bytes) % 16 === 0);
  return {
    p,
    m,
    n,
    k,
    batch,
    dtype,
    transposeA,
    transposeB,
    gated,
    lda,
    ldb,
    ldd,
    ldr,
    strideA,
    strideB,
    strideD,
    strideR,
    // With one row (of A, or of B [N, K]) or one batch there is no second to be misaligned.
    vectorA: aligned(p.a, !transposeA && m === 1 ? 0 : lda, batch > 1 ? strideA : 0),
    vectorB: aligned(p.b, ldb, batch > 1 ? strideB : 0, gated && !transposeB ? n : 0),
  };
}

function flagsOf(r: Resolved): number {
  const { p } = r;
  const outDtype = p.outDtype ?? p.dtype;
  const f = matmulFlags;
  const paired = p.out % BigInt(2 * outDtype.bytes) === 0n && r.ldd % 2 === 0 && (r.batch === 1 || r.strideD % 2 === 0);
  return (
    (r.transposeA ? f.transposeA : 0) |
    (r.transposeB ? f.transposeB : 0) |
    (outDtype === float32 ? f.outFloat : 0) |
    (r.vectorA ? f.vectorA : 0) |
    (r.vectorB ? f.vectorB : 0) |
    (p.gate === "silu" ? f.gateSilu : p.gate === "gelu" ? f.gateGelu : 0) |
    (paired ? f.pairedD : 0)
  );
}

function argumentsOf(r: Resolved, firstBatch: number): ArgValues<(typeof gemvKernel)["args"]> {
  const { p } = r;
  const outBytes = (p.outDtype ?? p.dtype).bytes;
  return {
    out: ptrAdd(p.out, firstBatch * r.strideD * outBytes),
    a: ptrAdd(p.a, firstBatch * r.strideA * p.dtype.bytes),
    b: ptrAdd(p.b, firstBatch * r.strideB * p.dtype.bytes),
    bias: p.bias ?? nullPtr,
    residual: p.residual === undefined ? nullPtr : ptrAdd(p.residual, firstBatch * r.strideR * outBytes),
    m: r.m,
    n: r.n,
    k: r.k,
    flags: flagsOf(r),
    lda: BigInt(r.lda),
    ldb: BigInt(r.ldb),
    ldd: BigInt(r.ldd),
    ldr: BigInt(r.ldr),
    strideA: BigInt(r.strideA),
    strideB: BigInt(r.strideB),
    strideD: BigInt(r.strideD),
    strideR: BigInt(r.strideR),
    alpha: p.alpha ?? 1,
    beta: p.beta ?? 0,
  };
}

/** Launches one of the kernels of specs.ts. */
function launchBatches(stream: Stream, r: Resolved, choice: MatmulChoice, first: number, batches: number): void {
  const args = argumentsOf(r, first);
  const dtype = r.dtype;
  const halves = r.gated ? 2 : 1;
  const b = r.transposeB ? "nk" : "kn";
  const shape = (blocks: number, block: number, sharedBytes = 0): KernelShape => ({
    grid: [blocks, 1, batches],
    block,
    sharedBytes,
  });
  const tiles = (rows: number, cols: number): number => Math.ceil(r.m / rows) * Math.ceil(r.n / (cols / halves));
  const options = { overlap: r.p.overlap === true };
  switch (choice.kernel) {
    case "gemv": {
      const at = shape(Math.ceil(r.n / gemvColumns), 32 * choice.split * halves);
      launch(stream, gemvKernel, { dtype, rows: choice.rows }, at, args, options);
      break;
    }
    case "gemv_mma": {
      // Blocks that stay and share out the tiles.
      const { rows, tile } = choice;
      const resident = stream.device.attributes.multiprocessors * gemvMmaResident[tile];
      const count = Math.min(resident, Math.ceil((r.n * halves) / gemvMmaTileRows[tile]));
      const at = shape(count, gemvMmaThreads, gemvMmaSharedBytes(tile, rows));
      launch(stream, gemvMmaKernel, { dtype: short16(dtype), rows, tile }, at, args, options);
      break;
    }
    case "simt": {
      const { size, threads } = simtTiles[choice.tile];
      launch(stream, simtKernel, { dtype, tile: choice.tile }, shape(tiles(size, size), threads), args);
      break;
    }
    case "wmma": {
      const { size, threads } = wmmaTiles[choice.tile];
      const variant = { dtype: "f16", b, tile: choice.tile } as const;
      launch(stream, wmmaKernel, variant, shape(tiles(size, size), threads), args);
      break;
    }
    case "mma": {
      if (choice.split > 1) {
        launchParts(stream, r, choice);
        break;
      }
      const { rows, cols, threads } = mmaTiles[choice.tile];
      const variant = { dtype: short16(dtype), b, tile: choice.tile } as const;
      launch(stream, mmaKernel, variant, shape(tiles(rows, cols), threads, mmaSharedBytes(choice.tile)), args);
      break;
    }
  }
}

/**
 * Parts of K as a batch of products, whose float32 sums lie in memory of the device's pool until a second launch has added them up
 * and finished the result.
 */
function launchParts(stream: Stream, r: Resolved, { tile, split }: MatmulChoice & { kernel: "mma" }): void {
  const { p, m, n, lda, ldb, ldd, ldr } = r;
  const [width, k] = [r.gated ? 2 * n : n, r.k / split];
  using parts = stream.device.allocate(split * m * width * float32.bytes);
  const { dtype, a, b } = p;
  const product: MatmulParams = { out: parts.ptr, a, b, m, n: width, k, dtype, outDtype: float32, transposeB: true };
  const batchStrides = { a: k, b: k, out: m * width };
  launchBatches(
    stream,
    resolve({ ...product, lda, ldb, batch: split, batchStrides }),
    { kernel: "mma", tile, split: 1 },
    0,
    split,
  );
  const { bias = nullPtr, residual = nullPtr, alpha = 1, beta = 0 } = p;
  launch(
    stream,
    combineKernel,
    { dtype: short16(r.dtype) },
    { grid: [Math.ceil(n / 256), m], block: 256 },
    {
      out: p.out,
      parts: parts.ptr,
      ...{ bias, residual, m, n, splits: split, flags: flagsOf(r), alpha, beta },
      ldd: BigInt(ldd),
      ldr: BigInt(ldr),
    },
  );
}

/** Kernels of 16-bit types are never chosen for float32 (kernelRefusal). */
function short16(dtype: MatmulShape["dtype"]): "f16" | "bf16" {
  return dtype === "bf16" ? "bf16" : "f16";
}
