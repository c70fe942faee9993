/**
 * The only reader of `process.env`. Read at first use, never at import, so that tests and hosts may set them late.
 * Every switch is documented here and in docs/settings.md.
 */
export const settings = {
  /** LLCUDA_FFI: which FFI engine binds C libraries, `koffi` (default) or `ffi-rs`. */
  ffiEngine: () => process.env.LLCUDA_FFI ?? "koffi",
  /** LLCUDA_DEVICE: the default device, such as `cuda:1`. */
  device: () => process.env.LLCUDA_DEVICE,
  /** LLCUDA_TARGET: forces the PTX target that kernels are taken from, such as `sm_60`; the GPU must be able to run it. */
  target: () => process.env.LLCUDA_TARGET,
  /** LLCUDA_CUDA_LIBRARY, LLCUDA_CUBLASLT_LIBRARY, LLCUDA_NCCL_LIBRARY: a file to open instead of searching. */
  library: (name: string) => process.env[`LLCUDA_${name.toUpperCase()}_LIBRARY`],
  /** CUDA_HOME or CUDA_PATH: where a CUDA toolkit is installed, searched for cublasLt and NCCL. */
  cudaHome: () => process.env.CUDA_HOME ?? process.env.CUDA_PATH,
  /** VIRTUAL_ENV, CONDA_PREFIX: Python environments, searched for the libraries that pip and conda install. */
  pythonPrefixes: () => [process.env.VIRTUAL_ENV, process.env.CONDA_PREFIX].filter((prefix) => prefix !== undefined),
  /** PATH, folder by folder: the Python installations on it are searched as well. */
  pathFolders: () => (process.env.PATH ?? "").split(process.platform === "win32" ? ";" : ":").filter((f) => f !== ""),
  /** LLCUDA_CUBLASLT=0: do not use cuBLASLt even where it is installed. */
  useCublasLt: () => process.env.LLCUDA_CUBLASLT !== "0",
  /** LLCUDA_MEMORY_LIMIT: the most bytes that the memory pool of a device may hold. */
  memoryLimitBytes: () => (process.env.LLCUDA_MEMORY_LIMIT ? Number(process.env.LLCUDA_MEMORY_LIMIT) : undefined),
  /** LLCUDA_SIM_CHECK=1: software devices watch kernels for wrong accesses, races and barriers. */
  simChecks: () => process.env.LLCUDA_SIM_CHECK === "1",
  /** LLCUDA_SIM_THREADS: the threads that run the blocks of a launch on a software device; otherwise the cores, at most 4. */
  simThreads: () => (process.env.LLCUDA_SIM_THREADS ? Number(process.env.LLCUDA_SIM_THREADS) : undefined),
  /** LLCUDA_DEBUG=1: report device memory that was freed by the garbage collector instead of by `dispose()`. */
  debug: () => process.env.LLCUDA_DEBUG === "1",
} as const;
