import { type DType, float16, float32 } from "../../base/dtype.ts";
import { CudaError, LibraryError } from "../../base/errors.ts";
import { settings } from "../../base/settings.ts";
import type { DevicePtr } from "../../driver/api.ts";
import type { Device } from "../../driver/device.ts";
import type { DeviceBuffer, MemoryPool } from "../../driver/memory.ts";
import type { Stream } from "../../driver/stream.ts";
import { CUBLAS_COMPUTE } from "../../ffi/cublaslt.ts";
import type { FfiEngine, NativeBlock, NativeLibrary } from "../../ffi/engine.ts";
import { findLibrary, type LibrarySearch } from "../../ffi/library.ts";
import { ffiEngine } from "../../ffi/select.ts";
import { bindCublasLt, type CublasLtLibrary } from "./cublaslt-library.ts";
import { type LtProblem, type Plan, PlanMaker } from "./cublaslt-plan.ts";
import type { MatmulParams } from "./params.ts";

export interface CublasLtOptions {
  /** float32 products through TF32 (10 bits of mantissa, about 8 times as fast on sm_80): not what `matmul` promises. */
  readonly tf32?: boolean;
}

/**
 * cuBLASLt as one more matmul kernel. Algorithms are chosen by the library's heuristic once per problem and kept; a call
 * is then one foreign call and may be captured in a graph. Split-K sums stay in float32.
 */
export class CublasLt {
  readonly device: Device;
  readonly path: string;
  readonly #lt: CublasLtLibrary;
  readonly #handle: ReturnType<CublasLtLibrary["calls"]["create"]>;
  readonly #plans: PlanMaker;
  /**
   * Kernels of one stream run one after the other, so they share a workspace; those of two streams must not. A graph uses
   * the workspace of the stream it was captured on: it must not run beside that stream's own products.
   */
  readonly #workspaces = new Map<Stream, DeviceBuffer>();
  /** A pool of its own: graphs that were captured with a workspace outlive the pool that was in use then. */
  readonly #pool: MemoryPool;
  readonly #scalars: NativeBlock;
  readonly #alphaBeta: Float32Array;

  /** Use `CublasLt.open()`. */
  constructor(device: Device, library: NativeLibrary, engine: FfiEngine = ffiEngine()) {
    this.device = device;
    this.path = library.path;
    this.#lt = bindCublasLt(engine, library);
    device.makeCurrent();
    this.#handle = this.#lt.calls.create();
    this.#plans = new PlanMaker(this.#lt, engine, this.#handle);
    this.#pool = device.createMemoryPool("cuBLASLt");
    this.#scalars = engine.alloc(8);
    this.#alphaBeta = new Float32Array(this.#scalars.buffer);
  }

  /**
   * cuBLASLt for this device, or undefined where LLCUDA_CUBLASLT=0, no library is found, or the one found does not start.
   * The same device gives the same object.
   */
  static open(device: Device): CublasLt | undefined {
    if (!settings.useCublasLt() || device.api.kind !== "cuda") return undefined;
    if (!opened.has(device)) opened.set(device, CublasLt.#start(device));
    return opened.get(device);
  }

  /** The search that `open` makes, for reports: a library must not be newer than the driver, nor drop this GPU. */
  static search(device: Device): LibrarySearch {
    const driverMajor = Math.floor(device.api.driverVersion() / 1000);
    // CUDA 13 libraries have no code for GPUs before sm_75.
    const newestMajor = device.attributes.capability < 75 ? Math.min(12, driverMajor) : driverMajor;
    return findLibrary("cublaslt", ffiEngine(), { newestMajor });
  }

  /** One line for reports: which library is used and where it was found, or why none is. */
  static explain(device: Device): string {
    if (!settings.useCublasLt()) return "not used: LLCUDA_CUBLASLT=0";
    const { library, source, attempts } = CublasLt.search(device);
    if (!library) return `not found, tried ${attempts.map((a) => a.file).join(", ")}`;
    const problem = CublasLt.open(device) ? "" : ", but it does not start on this GPU";
    return `${library.path} (${source})${problem}`;
  }

  static #start(device: Device): CublasLt | undefined {
    const { library } = CublasLt.search(device);
    if (!library) return undefined;
    try {
      return new CublasLt(device, library);
    } catch (error) {
      // A library that cannot start (wrong driver, unsupported GPU) or is too old is as good as none.
      if (error instanceof CudaError || error instanceof LibraryError) return undefined;
      throw error;
    }
  }

  /** 130100 for 13.1.0. */
  get version(): number {
    return this.#lt.calls.getVersion();
  }

  /**
   * Computes `p` (see MatmulParams) on `stream`. False, with nothing done, for what cuBLASLt cannot compute: gated
   * products, beta together with a residual, K = 0, mixed bias types, or a problem for which it has no algorithm.
   */
  matmul(stream: Stream, p: MatmulParams, options: CublasLtOptions = {}): boolean {
    if (p.m === 0 || p.n === 0 || p.batch === 0) return true;
    const problem = toProblem(p, options.tf32 ?? false);
    if (!problem) return false;
    this.device.makeCurrent();
    const workspace = this.#workspace(stream);
    const plan = this.#plans.plan(problem, workspace.bytes);
    if (!plan) return false;
    this.#run(plan, p, stream, workspace);
    return true;
  }

  /** The device must be idle. */
  dispose(): void {
    this.device.makeCurrent();
    this.#plans.dispose();
    this.#pool.dispose();
    this.#lt.calls.destroy(this.#handle);
    opened.delete(this.device);
  }

  #run(plan: Plan, p: MatmulParams, stream: Stream, workspace: DeviceBuffer): void {
    this.#alphaBeta[0] = p.alpha ?? 1;
    this.#alphaBeta[1] = p.residual === undefined ? (p.beta ?? 0) : 1;
    if (p.bias !== undefined) plan.setBias(p.bias);
    // Row-major D = A·B is column-major Dᵀ = Bᵀ·Aᵀ: the operands change places.
    this.#lt.calls.matmul(
      this.#handle,
      plan.desc,
      this.#scalars.address,
      p.b,
      plan.layouts.b,
      p.a,
      plan.layouts.a,
      this.#scalars.address + 4n,
      p.residual ?? p.out,
      plan.layouts.c,
      p.out,
      plan.layouts.d,
      plan.algorithm.address,
      workspace.ptr,
      workspace.bytes,
      stream.handle,
    );
  }

  #workspace(stream: Stream): DeviceBuffer {
    const found = this.#workspaces.get(stream);
    if (found) return found;
    const bytes = workspaceBytes(this.device.attributes.capability);
    const made = this.#pool.allocate(bytes, stream, "cuBLASLt workspace");
    this.#workspaces.set(stream, made);
    return made;
  }
}

/** One per device for as long as the device lives. */
const opened = new WeakMap<Device, CublasLt | undefined>();

/** What NVIDIA recommends: 32 MiB from Hopper on, 4 MiB before (https://docs.nvidia.com/cuda/cublas/ section 2.4.8). */
export function workspaceBytes(capability: number): number {
  return (capability >= 90 ? 32 : 4) * 2 ** 20;
}

/** The problem as cuBLASLt sees it, without addresses; undefined when it has no way to express it. */
export function toProblem(p: MatmulParams, tf32: boolean): LtProblem | undefined {
  const outDtype = p.outDtype ?? p.dtype;
  if (p.k === 0 || p.gate !== undefined) return undefined;
  if (p.residual !== undefined && (p.beta ?? 0) !== 0) return undefined;
  // The bias epilogue reads the bias in the type of D.
  if (p.bias !== undefined && outDtype !== p.dtype) return undefined;
  const ldd = p.ldd ?? p.n;
  const addresses = [p.b, p.a, p.residual ?? p.out, p.out, ...(p.bias === undefined ? [] : [p.bias])];
  const strides = p.batchStrides;
  const batch = p.batch ?? 1;
  if (batch > 1 && !strides) return undefined;
  return {
    m: p.m,
    n: p.n,
    k: p.k,
    input: dataType(p.dtype),
    output: dataType(outDtype),
    compute: p.dtype === float32 && tf32 ? CUBLAS_COMPUTE.f32FastTf32 : CUBLAS_COMPUTE.f32,
    transposeA: p.transposeA ?? false,
    transposeB: p.transposeB ?? false,
    lda: p.lda ?? (p.transposeA ? p.m : p.k),
    ldb: p.ldb ?? (p.transposeB ? p.k : p.n),
    ldc: p.residual === undefined ? ldd : (p.ldResidual ?? ldd),
    ldd,
    batch,
    strideA: batch > 1 ? strides!.a : 0,
    strideB: batch > 1 ? strides!.b : 0,
    strideC: batch > 1 ? (p.residual === undefined ? strides!.out : (strides!.residual ?? strides!.out)) : 0,
    strideD: batch > 1 ? strides!.out : 0,
    bias: p.bias !== undefined,
    alignments: addresses.map(alignment),
  };
}

function dataType(dtype: DType): "f32" | "f16" | "bf16" {
  return dtype === float32 ? "f32" : dtype === float16 ? "f16" : "bf16";
}

/** The largest power of two that divides an address, up to 256: what the heuristic assumes when it is not told. */
function alignment(address: DevicePtr): number {
  const low = Number(address & 0xffn);
  return low === 0 ? 256 : low & -low;
}
