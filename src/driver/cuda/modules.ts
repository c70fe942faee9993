import { CudaError, ModuleError } from "../../base/errors.ts";
import { CU, cudaResult } from "../../ffi/cuda-results.ts";
import type { FfiEngine, NativeBlock } from "../../ffi/engine.ts";
import type { ModuleHandle } from "../../ffi/handles.ts";
import type { CudaDriver } from "./load.ts";

/** CUjit_option values, from cuda.h. */
const CU_JIT_INFO_LOG_BUFFER = 3;
const CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES = 4;
const CU_JIT_ERROR_LOG_BUFFER = 5;
const CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES = 6;

const logBytes = 16 * 1024;

/** Has the driver compile PTX. Its native memory is reused: programs load hundreds of modules in one go. */
export class PtxLoader {
  readonly #cu: CudaDriver;
  readonly #engine: FfiEngine;
  readonly #errorLog: NativeBlock;
  readonly #infoLog: NativeBlock;
  readonly #options: NativeBlock;
  readonly #values: NativeBlock;
  #image: NativeBlock;

  constructor(cu: CudaDriver, engine: FfiEngine) {
    this.#cu = cu;
    this.#engine = engine;
    this.#errorLog = engine.alloc(logBytes);
    this.#infoLog = engine.alloc(logBytes);
    this.#options = engine.alloc(4 * 4);
    this.#values = engine.alloc(4 * 8); // One void* each: pointers as such, numbers in the low bytes.
    this.#image = engine.alloc(64 * 1024);
    new Uint32Array(this.#options.buffer).set([
      CU_JIT_ERROR_LOG_BUFFER,
      CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
      CU_JIT_INFO_LOG_BUFFER,
      CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES,
    ]);
  }

  /** Compiles PTX for the current context. Throws ModuleError with the compiler's log when the driver refuses the text. */
  load(ptx: Uint8Array, name: string): ModuleHandle {
    if (ptx.byteLength >= this.#image.buffer.byteLength) this.#image = this.#engine.alloc(2 * ptx.byteLength);
    const image = new Uint8Array(this.#image.buffer);
    image.set(ptx);
    image[ptx.byteLength] = 0; // The driver expects a NUL after the text.
    for (const log of [this.#errorLog, this.#infoLog]) new Uint8Array(log.buffer)[0] = 0;
    // Written each time, because the driver puts the lengths of the logs there. The last byte of each log stays zero.
    const usable = BigInt(logBytes - 1);
    new BigUint64Array(this.#values.buffer).set([this.#errorLog.address, usable, this.#infoLog.address, usable]);
    try {
      return this.#cu.calls.moduleLoadData(this.#image.address, 4, this.#options.address, this.#values.address);
    } catch (cause) {
      if (!(cause instanceof CudaError) || !isTheTextsFault(cause.status)) throw cause;
      const log = [this.#errorLog, this.#infoLog]
        .map((block) => this.#engine.readString(block.address).trim())
        .filter((text) => text !== "")
        .join("\n");
      const detail = log === "" ? "" : `: ${log.split("\n", 1)[0]}`;
      throw new ModuleError(`${name}: the driver could not compile this PTX: ${cause.message}${detail}`, log, {
        cause,
      });
    }
  }
}

/** Neither a full GPU nor a broken context says anything about the PTX. */
function isTheTextsFault(status: number): boolean {
  return status !== CU.outOfMemory && cudaResult(status).sticky !== true;
}
