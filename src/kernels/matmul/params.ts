import type { DType } from "../../base/dtype.ts";
import type { DevicePtr } from "../../driver/api.ts";

/** The kernels behind `matmul`, slowest and most general first. `hopper` and `cublaslt` live in files of their own. */
export type MatmulKernelName = "simt" | "gemv" | "gemv_mma" | "wmma" | "mma" | "hopper" | "cublaslt";

/**
 * D[M, N] = alpha * A[M, K] · B[K, N] + beta * D + bias[N] + residual[M, N], each term optional.
 *
 * Raw device pointers, row-major matrices, sizes and strides in elements. Sums, alpha, beta and the epilogue are
 * float32; the result is rounded once, to `outDtype`. float32 products are true float32 (no TF32).
 * K = 0 gives beta * D + bias + residual; M, N or batch = 0 does nothing. With beta = 0, `out` is never read.
 */
export interface MatmulParams {
  out: DevicePtr;
  a: DevicePtr;
  b: DevicePtr;
  m: number;
  n: number;
  k: number;
  /** Of A, B and bias: float32, float16 or bfloat16. */
  dtype: DType;
  /** Of D and the residual: `dtype` (the default) or float32. */
  outDtype?: DType;
  /** A is stored as [K, M] instead of [M, K]. */
  transposeA?: boolean;
  /** B is stored as [N, K], as the weight of a Linear layer is, instead of [K, N]. */
  transposeB?: boolean;
  /** Elements from one stored row to the next; by default the stored row's length. */
  lda?: number;
  ldb?: number;
  ldd?: number;
  /** Number of products (default 1), `batchStrides` elements apart; a stride of 0 shares one operand. */
  batch?: number;
  batchStrides?: { a: number; b: number; out: number; residual?: number };
  alpha?: number;
  beta?: number;
  /** [N] (with `gate` [2N]), shared by the batch. */
  bias?: DevicePtr;
  /** [M, N] in `outDtype`; may be `out` itself. */
  residual?: DevicePtr;
  /** Default `ldd`. */
  ldResidual?: number;
  /**
   * B holds a gate and an up projection one after the other: [2N, K] (or [K, 2N]), n being the width of one of them.
   * D = activation(A·Bgate + bias) * (A·Bup + bias), the middle of a gated feed-forward layer. Not with beta or residual.
   */
  gate?: "silu" | "gelu";
  /** Who computes: `own` kernels, `cublaslt`, or (`auto`, the default) whichever suits the shape. */
  backend?: "auto" | "own" | "cublaslt";
  /** Forces one kernel, for tests and benchmarks; throws UnsupportedError where it cannot run the problem. */
  kernel?: MatmulKernelName;
  /** Forces one of that kernel's tile shapes, spelled as its variant: `128x128`. */
  tile?: string;
  /**
   * Programmatic overlap (capability 9.0): start while the stream's previous kernel still runs, and wait for it before
   * reading anything but B. Only for a B that no kernel in flight writes: a weight.
   */
  overlap?: boolean;
}
