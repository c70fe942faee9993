import { CudaError, ModuleError } from "../../base/errors.ts";
import { CU, cudaResult } from "../../ffi/cuda-results.ts";
import type { FfiEngine } from "../../ffi/engine.ts";
import type { ModuleHandle } from "../../ffi/handles.ts";
import type { CudaDriver } from "./load.ts";

/** CUjit_option values, from cuda.h. */
const CU_JIT_INFO_LOG_BUFFER = 3;
const CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES = 4;
const CU_JIT_ERROR_LOG_BUFFER = 5;
const CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES = 6;

const logBytes = 16 * 1024;

/** Compiles PTX for the current context. Throws ModuleError with the compiler's log when the driver refuses the text. */
export function loadPtx(cu: CudaDriver, engine: FfiEngine, ptx: Uint8Array, name: string): ModuleHandle {
  const image = engine.alloc(ptx.byteLength + 1); // The driver expects a NUL after the text.
  new Uint8Array(image.buffer).set(ptx);
  const errorLog = engine.alloc(logBytes);
  const infoLog = engine.alloc(logBytes);
  const options = engine.alloc(4 * 4);
  const values = engine.alloc(4 * 8); // One void* each: pointers as such, numbers in the low bytes.
  new Uint32Array(options.buffer).set([
    CU_JIT_ERROR_LOG_BUFFER,
    CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
    CU_JIT_INFO_LOG_BUFFER,
    CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES,
  ]);
  // The last byte stays zero, so that a full log is still a string.
  const usable = BigInt(logBytes - 1);
  new BigUint64Array(values.buffer).set([errorLog.address, usable, infoLog.address, usable]);
  try {
    return cu.calls.moduleLoadData(image.address, 4, options.address, values.address);
  } catch (cause) {
    if (!(cause instanceof CudaError) || cause.status === CU.outOfMemory || cudaResult(cause.status).sticky)
      throw cause;
    const log = [errorLog, infoLog]
      .map((block) => engine.readString(block.address).trim())
      .filter((s) => s !== "")
      .join("\n");
    const detail = log === "" ? "" : `: ${log.split("\n", 1)[0]}`;
    throw new ModuleError(`${name}: the driver could not compile this PTX: ${cause.message}${detail}`, log, { cause });
  }
}
