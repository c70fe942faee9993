import { fn, raw } from "./table.ts";
import { handle, i32, out, pointer, usize } from "./types.ts";

/**
 * cuBLASLt, as far as llcuda calls it: libcublasLt.so or cublasLt64.dll of CUDA 11, 12 or 13.
 * Source of the functions: https://docs.nvidia.com/cuda/cublas/ section 3.4. That page does not print the values of the
 * enumerations (cublasLt.h, cublas_api.h, library_types.h); those below are what public bindings generated from these
 * headers agree on: cuda_types/src/cublaslt.rs of vosen/ZLUDA, max/kernels/src/_cublas/cublaslt.mojo of modular/modular.
 */

const lt = handle<"cublasLtHandle_t">();
const desc = handle<"cublasLtMatmulDesc_t">();
const layout = handle<"cublasLtMatrixLayout_t">();
const preference = handle<"cublasLtMatmulPreference_t">();
const stream = handle<"CUstream">();
const devicePtr = handle<"CUdeviceptr">();

export const cublasLt = {
  getVersion: raw(usize, "cublasLtGetVersion", "10.1"),
  create: fn("cublasLtCreate", "10.1", out(lt)),
  destroy: fn("cublasLtDestroy", "10.1", lt),

  /** compute type, scale type */
  descCreate: fn("cublasLtMatmulDescCreate", "11.0", out(desc), i32, i32),
  descDestroy: fn("cublasLtMatmulDescDestroy", "10.1", desc),
  /** attribute, value, bytes */
  descSet: fn("cublasLtMatmulDescSetAttribute", "10.1", desc, i32, pointer, usize),

  /** data type, rows, columns, leading dimension; column-major */
  layoutCreate: fn("cublasLtMatrixLayoutCreate", "10.1", out(layout), i32, usize, usize, usize),
  layoutDestroy: fn("cublasLtMatrixLayoutDestroy", "10.1", layout),
  layoutSet: fn("cublasLtMatrixLayoutSetAttribute", "10.1", layout, i32, pointer, usize),

  preferenceCreate: fn("cublasLtMatmulPreferenceCreate", "10.1", out(preference)),
  preferenceDestroy: fn("cublasLtMatmulPreferenceDestroy", "10.1", preference),
  preferenceSet: fn("cublasLtMatmulPreferenceSetAttribute", "10.1", preference, i32, pointer, usize),

  /** operation, layouts of A B C D, preference, how many, results, number of results */
  algoGetHeuristic: raw(
    i32,
    "cublasLtMatmulAlgoGetHeuristic",
    "10.1",
    lt,
    desc,
    layout,
    layout,
    layout,
    layout,
    preference,
    i32,
    pointer,
    pointer,
  ),
  /** operation, alpha, A, its layout, B, its layout, beta, C, its layout, D, its layout, algorithm, workspace, its bytes */
  matmul: fn(
    "cublasLtMatmul",
    "10.1",
    lt,
    desc,
    pointer,
    devicePtr,
    layout,
    devicePtr,
    layout,
    pointer,
    devicePtr,
    layout,
    devicePtr,
    layout,
    pointer,
    devicePtr,
    usize,
    stream,
  ),
} as const;

/** cudaDataType_t */
export const CUDA_R = { f32: 0, f16: 2, bf16: 14 } as const;

/** cublasComputeType_t: products of 16-bit inputs are exact in float32; float32 products are true float32 or TF32. */
export const CUBLAS_COMPUTE = { f32: 68, f32FastTf32: 77 } as const;

/** cublasOperation_t */
export const CUBLAS_OP = { none: 0, transpose: 1 } as const;

/** cublasLtMatmulDescAttributes_t: i32, i32, u32, pointer */
export const LT_DESC = { transA: 3, transB: 4, epilogue: 7, biasPointer: 8 } as const;

/** cublasLtEpilogue_t */
export const LT_EPILOGUE = { default: 1, bias: 4 } as const;

/** cublasLtMatrixLayoutAttribute_t: i32, i64 */
export const LT_LAYOUT = { batchCount: 5, stridedBatchOffset: 6 } as const;

/** cublasLtMatmulPreferenceAttributes_t: u64, u32, then u32 each */
export const LT_PREFERENCE = {
  maxWorkspaceBytes: 1,
  reductionSchemeMask: 3,
  alignmentA: 5,
  alignmentB: 6,
  alignmentC: 7,
  alignmentD: 8,
} as const;

/** cublasLtReductionScheme_t: partial sums of split K are added in the compute type (0, no splitting, is always allowed). */
export const LT_REDUCTION_COMPUTE_TYPE = 2;

/** cublasLtMatmulHeuristicResult_t: the algorithm (64 bytes) first; offsets of the rest. */
export const LT_HEURISTIC = { algoBytes: 64, workspaceBytes: 64, state: 72, bytes: 96 } as const;

/** cublasStatus_t */
export const cublasStatusNames: Readonly<Record<number, string>> = {
  0: "CUBLAS_STATUS_SUCCESS",
  1: "CUBLAS_STATUS_NOT_INITIALIZED",
  3: "CUBLAS_STATUS_ALLOC_FAILED",
  7: "CUBLAS_STATUS_INVALID_VALUE",
  8: "CUBLAS_STATUS_ARCH_MISMATCH",
  11: "CUBLAS_STATUS_MAPPING_ERROR",
  13: "CUBLAS_STATUS_EXECUTION_FAILED",
  14: "CUBLAS_STATUS_INTERNAL_ERROR",
  15: "CUBLAS_STATUS_NOT_SUPPORTED",
  16: "CUBLAS_STATUS_LICENSE_ERROR",
};
export const CUBLAS_STATUS_NOT_SUPPORTED = 15;
