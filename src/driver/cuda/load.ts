import { DeviceError, LibraryError } from "../../base/errors.ts";
import { cudaDriver } from "../../ffi/cuda-driver.ts";
import { CU, cudaResult } from "../../ffi/cuda-results.ts";
import type { FfiEngine, NativeLibrary } from "../../ffi/engine.ts";
import { openLibrary } from "../../ffi/library.ts";
import { type Bound, bind } from "../../ffi/table.ts";
import type { CudaFaults } from "./errors.ts";

export type CudaDriver = Bound<typeof cudaDriver>;

/** CUDA 11.0: the newest symbol without a fallback is cuDevicePrimaryCtxRelease_v2, and sm_80 code is PTX 7.0. */
const minimumVersion = 11000;
const minimumDriver = "450.80.02 (Linux) or 452.39 (Windows)";

/**
 * Opens libcuda (or `library`), checks its version and initializes it. Throws DeviceError that says what is missing: the
 * driver, a newer one, or a GPU.
 */
export function loadCudaDriver(
  engine: FfiEngine,
  faults: CudaFaults,
  library: NativeLibrary = findDriver(engine),
): { cu: CudaDriver; version: number } {
  let version = 0;
  const cu = bind(cudaDriver, {
    engine,
    library,
    fail: (symbol, status) => faults.fail(symbol, status),
    describe: () => `a driver for CUDA ${formatCudaVersion(version)}`,
  });
  version = cu.calls.driverGetVersion();
  if (version < minimumVersion) {
    throw new DeviceError(
      `cuda: the NVIDIA driver supports CUDA ${formatCudaVersion(version)}, llcuda needs ${formatCudaVersion(minimumVersion)} or newer; update the driver to ${minimumDriver} or newer`,
    );
  }
  const status = cu.calls.init(0);
  if (status !== CU.success) {
    const { name, text, advice } = cudaResult(status);
    throw new DeviceError(
      `cuda: the NVIDIA driver found no usable GPU: cuInit returned ${name} (${status}): ${text}${advice === undefined ? "" : `; ${advice}`}`,
      { cause: faults.error("cuInit", status) },
    );
  }
  return { cu, version };
}

/** 12080 as "12.8". */
export function formatCudaVersion(version: number): string {
  return `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`;
}

function findDriver(engine: FfiEngine): NativeLibrary {
  try {
    return openLibrary(
      "cuda",
      engine,
      `install the NVIDIA driver, ${minimumDriver} or newer (the device "sim" needs none)`,
    );
  } catch (cause) {
    if (!(cause instanceof LibraryError)) throw cause;
    const tried = cause.message.replace("cuda: no library found, ", "");
    throw new DeviceError(`cuda: no NVIDIA driver: ${tried}`, { cause });
  }
}
