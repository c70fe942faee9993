import type { DType } from "../../base/dtype.ts";
import type { DevicePtr } from "../../driver/api.ts";
import type { GgmlFormat } from "../ggml/ggml.ts";
import type { Code4Data } from "../nf4/nf4.ts";

/** A weight [N, K] in device memory as a file stores it: 4-bit codes with their levels, or GGML blocks along K. */
export type QuantData =
  | (Code4Data & {
      readonly kind: "code4";
      /** What levels are multiplied by before they are rounded to 16 bits; see codeScale. */
      readonly levelScale: { readonly f16: number; readonly bf16: number };
    })
  | { readonly kind: "ggml"; readonly type: GgmlFormat; readonly blocks: DevicePtr };

export const quantKernelNames = ["gemv", "mma", "bulk", "gemm", "wgmma", "wmma", "dequantize"] as const;
export type QuantKernelName = (typeof quantKernelNames)[number];

/**
 * D[M, N] = x[M, K] · W[N, K]^T + bias[N] + residual[M, N], the last two optional, W quantized.
 * Raw device pointers, row-major, sizes and strides in elements; sums and epilogue float32, rounded once.
 */
export interface QuantMatmulParams {
  out: DevicePtr;
  x: DevicePtr;
  weight: QuantData;
  m: number;
  n: number;
  k: number;
  /** Of x and bias: float32, float16 or bfloat16. */
  dtype: DType;
  /** Of D and the residual: `dtype` (the default) or float32. */
  outDtype?: DType;
  /** Elements from one row to the next: default K, N and `ldd`. */
  ldx?: number;
  ldd?: number;
  ldResidual?: number;
  /** [N] (with `gate` [2N]). */
  bias?: DevicePtr;
  /** [M, N] in `outDtype`; may be `out` itself. */
  residual?: DevicePtr;
  /** W stacks a gate and an up projection [2N, K]: D = activation(x·Wgate + bias) * (x·Wup + bias). Not with a residual. */
  gate?: "silu" | "gelu";
  /** Forces one kernel, for tests and benchmarks; throws UnsupportedError where it cannot run the problem. */
  kernel?: QuantKernelName;
  /** As in MatmulParams: start before the stream's previous kernel has ended, and wait for it before x is read. */
  overlap?: boolean;
}
