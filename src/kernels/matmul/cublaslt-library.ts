import { CudaError } from "../../base/errors.ts";
import { cublasLt, cublasStatusNames } from "../../ffi/cublaslt.ts";
import type { FfiEngine, NativeLibrary } from "../../ffi/engine.ts";
import { type Bound, bind } from "../../ffi/table.ts";

export type CublasLtLibrary = Bound<typeof cublasLt>;

/** The calls of cuBLASLt; a failed one throws CudaError with cuBLAS's name for the status. */
export function bindCublasLt(engine: FfiEngine, library: NativeLibrary): CublasLtLibrary {
  return bind(cublasLt, { engine, library, fail: cublasFailed, describe: () => "cuBLASLt" });
}

export function cublasFailed(symbol: string, status: number): never {
  const name = cublasStatusNames[status] ?? `cublasStatus_t ${status}`;
  const message = `${symbol}: ${name} (${status}); set LLCUDA_CUBLASLT=0 to do without cuBLASLt`;
  throw new CudaError(symbol, status, name, message);
}
