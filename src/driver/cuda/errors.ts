import { CudaError } from "../../base/errors.ts";
import { cudaResult } from "../../ffi/cuda-results.ts";

/**
 * Turns statuses into errors, and remembers the first one that broke the context: everything after it fails with the
 * same status, and what the user needs to see is the first.
 */
export class CudaFaults {
  #first: string | undefined;

  /** Throws CudaError for a failed call. */
  fail(symbol: string, status: number): never {
    throw this.error(symbol, status);
  }

  error(symbol: string, status: number): CudaError {
    const { name, text, advice, sticky } = cudaResult(status);
    const earlier = this.#first === undefined ? "" : `; earlier, ${this.#first}, which broke this GPU's context`;
    if (sticky) {
      // Kernels run asynchronously, so the call that reports a fault is seldom the one that caused it.
      this.#first ??= `${symbol} reported ${name}`;
    }
    const message = `${symbol}: ${name} (${status}): ${text}${advice === undefined ? "" : `; ${advice}`}${earlier}`;
    return new CudaError(symbol, status, name, message);
  }
}
