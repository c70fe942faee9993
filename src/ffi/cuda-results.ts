// Names and values from `enum cudaError_enum` (CUresult) of cuda.h, CUDA 13.0; texts, advice and stickiness are our own.

/** One status of the CUDA driver API. */
export interface CudaResult {
  readonly name: string;
  readonly text: string;
  /** What to do about it, for those that users meet. */
  readonly advice?: string;
  /** The context (or process) is lost: every later call fails, usually with the same status. */
  readonly sticky?: true;
}

/** Every CUresult by value. */
export const cudaResults: Readonly<Record<number, CudaResult>> = {
  0: { name: "CUDA_SUCCESS", text: "the call succeeded" },
  1: { name: "CUDA_ERROR_INVALID_VALUE", text: "an argument is outside its valid range" },
  2: {
    name: "CUDA_ERROR_OUT_OF_MEMORY",
    text: "not enough memory",
    advice:
      "free tensors, lower the context length or batch, or use a smaller dtype; `nvidia-smi` shows what else holds memory",
  },
  3: { name: "CUDA_ERROR_NOT_INITIALIZED", text: "cuInit has not been called, or it failed" },
  4: { name: "CUDA_ERROR_DEINITIALIZED", text: "the driver is shutting down in this process", sticky: true },
  5: { name: "CUDA_ERROR_PROFILER_DISABLED", text: "the profiler is not initialized for this run" },
  6: { name: "CUDA_ERROR_PROFILER_NOT_INITIALIZED", text: "the profiler is not initialized" },
  7: { name: "CUDA_ERROR_PROFILER_ALREADY_STARTED", text: "the profiler has already started" },
  8: { name: "CUDA_ERROR_PROFILER_ALREADY_STOPPED", text: "the profiler has already stopped" },
  34: {
    name: "CUDA_ERROR_STUB_LIBRARY",
    text: "a stub library was loaded instead of the real driver",
    advice: "remove the toolkit's `stubs` folder from the library path",
  },
  36: {
    name: "CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER",
    text: "the call needs a newer driver",
    advice: "update the NVIDIA driver",
  },
  46: {
    name: "CUDA_ERROR_DEVICE_UNAVAILABLE",
    text: "the device cannot be used at the moment",
    advice: "another process may hold the device exclusively: see `nvidia-smi`",
  },
  100: {
    name: "CUDA_ERROR_NO_DEVICE",
    text: "no CUDA device was found",
    advice: "check that `nvidia-smi` lists a GPU, and CUDA_VISIBLE_DEVICES",
  },
  101: {
    name: "CUDA_ERROR_INVALID_DEVICE",
    text: "the device ordinal is not valid",
    advice: "`llcuda devices` lists what there is",
  },
  102: { name: "CUDA_ERROR_DEVICE_NOT_LICENSED", text: "the device has no license for compute" },
  200: { name: "CUDA_ERROR_INVALID_IMAGE", text: "the kernel image is not valid" },
  201: { name: "CUDA_ERROR_INVALID_CONTEXT", text: "no valid context is current on this thread" },
  202: { name: "CUDA_ERROR_CONTEXT_ALREADY_CURRENT", text: "the context is already current" },
  205: { name: "CUDA_ERROR_MAP_FAILED", text: "mapping a resource failed" },
  206: { name: "CUDA_ERROR_UNMAP_FAILED", text: "unmapping a resource failed" },
  207: { name: "CUDA_ERROR_ARRAY_IS_MAPPED", text: "the array is mapped and cannot be destroyed" },
  208: { name: "CUDA_ERROR_ALREADY_MAPPED", text: "the resource is already mapped" },
  209: {
    name: "CUDA_ERROR_NO_BINARY_FOR_GPU",
    text: "no kernel image fits this device",
    advice: "the GPU may be older than sm_60, the oldest that llcuda ships kernels for",
  },
  210: { name: "CUDA_ERROR_ALREADY_ACQUIRED", text: "the resource has already been acquired" },
  211: { name: "CUDA_ERROR_NOT_MAPPED", text: "the resource is not mapped" },
  212: { name: "CUDA_ERROR_NOT_MAPPED_AS_ARRAY", text: "the resource is not mapped as an array" },
  213: { name: "CUDA_ERROR_NOT_MAPPED_AS_POINTER", text: "the resource is not mapped as a pointer" },
  214: {
    name: "CUDA_ERROR_ECC_UNCORRECTABLE",
    text: "an uncorrectable memory (ECC) error happened during execution",
    advice: "the memory of this GPU is failing: restart the process, and see `nvidia-smi -q -d ECC`",
    sticky: true,
  },
  215: { name: "CUDA_ERROR_UNSUPPORTED_LIMIT", text: "the device does not support this limit" },
  216: { name: "CUDA_ERROR_CONTEXT_ALREADY_IN_USE", text: "the context belongs to another thread" },
  217: { name: "CUDA_ERROR_PEER_ACCESS_UNSUPPORTED", text: "the devices cannot access each other's memory" },
  218: {
    name: "CUDA_ERROR_INVALID_PTX",
    text: "compiling PTX failed",
    advice: "the log of the driver's compiler says where",
  },
  219: { name: "CUDA_ERROR_INVALID_GRAPHICS_CONTEXT", text: "the graphics context is not valid" },
  220: {
    name: "CUDA_ERROR_NVLINK_UNCORRECTABLE",
    text: "an uncorrectable NVLink error was detected",
    advice: "see `nvidia-smi nvlink -e`; restart the process",
    sticky: true,
  },
  221: {
    name: "CUDA_ERROR_JIT_COMPILER_NOT_FOUND",
    text: "the driver's PTX compiler library was not found",
    advice: "the driver installation is incomplete: libnvidia-ptxjitcompiler is missing",
  },
  222: {
    name: "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
    text: "the PTX is newer than the driver's compiler",
    advice: "update the NVIDIA driver",
  },
  223: {
    name: "CUDA_ERROR_JIT_COMPILATION_DISABLED",
    text: "compiling PTX is switched off",
    advice: "unset CUDA_DISABLE_PTX_JIT",
  },
  224: { name: "CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY", text: "the execution affinity is not supported" },
  225: {
    name: "CUDA_ERROR_UNSUPPORTED_DEVSIDE_SYNC",
    text: "the code synchronizes from the device in a way that is not supported",
  },
  226: { name: "CUDA_ERROR_CONTAINED", text: "the device had an error that was contained", sticky: true },
  300: { name: "CUDA_ERROR_INVALID_SOURCE", text: "the kernel source is not valid" },
  301: { name: "CUDA_ERROR_FILE_NOT_FOUND", text: "a file was not found" },
  302: { name: "CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND", text: "a symbol of a shared object could not be resolved" },
  303: { name: "CUDA_ERROR_SHARED_OBJECT_INIT_FAILED", text: "a shared object failed to initialize" },
  304: { name: "CUDA_ERROR_OPERATING_SYSTEM", text: "an operating system call failed" },
  400: { name: "CUDA_ERROR_INVALID_HANDLE", text: "a handle is not valid" },
  401: { name: "CUDA_ERROR_ILLEGAL_STATE", text: "an object is in a state that the call does not allow" },
  402: { name: "CUDA_ERROR_LOSSY_QUERY", text: "the query would lose information" },
  500: {
    name: "CUDA_ERROR_NOT_FOUND",
    text: "a named symbol was not found",
    advice: "the PTX in this installation may be stale: reinstall llcuda",
  },
  600: { name: "CUDA_ERROR_NOT_READY", text: "work is still running" },
  700: {
    name: "CUDA_ERROR_ILLEGAL_ADDRESS",
    text: "a kernel read or wrote an address that is not valid",
    advice: "find the kernel with compute-sanitizer; the context is lost and the process has to restart",
    sticky: true,
  },
  701: {
    name: "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
    text: "the launch needs more registers, shared memory or threads than the device has",
    advice: "the launch configuration does not suit this GPU: please report the kernel and the GPU",
  },
  702: {
    name: "CUDA_ERROR_LAUNCH_TIMEOUT",
    text: "a kernel ran longer than the display's time limit",
    advice: "use a GPU without a display, or raise the system's timeout",
    sticky: true,
  },
  703: { name: "CUDA_ERROR_LAUNCH_INCOMPATIBLE_TEXTURING", text: "the launch uses incompatible texturing modes" },
  704: { name: "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED", text: "peer access is already enabled" },
  705: { name: "CUDA_ERROR_PEER_ACCESS_NOT_ENABLED", text: "peer access is not enabled" },
  708: { name: "CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE", text: "the primary context is already active" },
  709: { name: "CUDA_ERROR_CONTEXT_IS_DESTROYED", text: "the context has been destroyed", sticky: true },
  710: { name: "CUDA_ERROR_ASSERT", text: "a device-side assertion failed", sticky: true },
  711: { name: "CUDA_ERROR_TOO_MANY_PEERS", text: "no more peer mappings are possible" },
  712: { name: "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED", text: "the host memory is already registered" },
  713: { name: "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED", text: "the host memory is not registered" },
  714: {
    name: "CUDA_ERROR_HARDWARE_STACK_ERROR",
    text: "a kernel overflowed or corrupted its call stack",
    sticky: true,
  },
  715: { name: "CUDA_ERROR_ILLEGAL_INSTRUCTION", text: "a kernel executed an illegal instruction", sticky: true },
  716: {
    name: "CUDA_ERROR_MISALIGNED_ADDRESS",
    text: "a kernel accessed an address that is not aligned",
    advice: "find the kernel with compute-sanitizer; the context is lost and the process has to restart",
    sticky: true,
  },
  717: {
    name: "CUDA_ERROR_INVALID_ADDRESS_SPACE",
    text: "a kernel used an address in the wrong memory space",
    sticky: true,
  },
  718: { name: "CUDA_ERROR_INVALID_PC", text: "a kernel's program counter left its code", sticky: true },
  719: {
    name: "CUDA_ERROR_LAUNCH_FAILED",
    text: "a kernel failed while it ran",
    advice: "find the kernel with compute-sanitizer; the context is lost and the process has to restart",
    sticky: true,
  },
  720: {
    name: "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE",
    text: "a cooperative launch has more blocks than fit on the device at once",
  },
  721: { name: "CUDA_ERROR_TENSOR_MEMORY_LEAK", text: "a kernel ended without freeing tensor memory" },
  800: { name: "CUDA_ERROR_NOT_PERMITTED", text: "the operation is not permitted" },
  801: { name: "CUDA_ERROR_NOT_SUPPORTED", text: "the operation is not supported on this system or device" },
  802: {
    name: "CUDA_ERROR_SYSTEM_NOT_READY",
    text: "the system (NVSwitch fabric, for example) is not ready for CUDA",
    advice: "check that nvidia-fabricmanager is running",
  },
  803: {
    name: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
    text: "the kernel driver and the user-mode driver are of different versions",
    advice: "the driver was updated while loaded: restart the machine, or inside a container, match the host's driver",
  },
  804: {
    name: "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
    text: "forward compatibility is not supported on this device",
    advice: "use a driver that supports this GPU natively, without the compat libraries",
  },
  805: {
    name: "CUDA_ERROR_MPS_CONNECTION_FAILED",
    text: "the client could not connect to the MPS control daemon",
    advice: "check that nvidia-cuda-mps-control is running",
  },
  806: { name: "CUDA_ERROR_MPS_RPC_FAILURE", text: "a call to the MPS server failed" },
  807: { name: "CUDA_ERROR_MPS_SERVER_NOT_READY", text: "the MPS server is not ready" },
  808: { name: "CUDA_ERROR_MPS_MAX_CLIENTS_REACHED", text: "the MPS server has no room for another client" },
  809: { name: "CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED", text: "the MPS server has no room for another connection" },
  810: { name: "CUDA_ERROR_MPS_CLIENT_TERMINATED", text: "the MPS server terminated this client" },
  811: { name: "CUDA_ERROR_CDP_NOT_SUPPORTED", text: "dynamic parallelism is not supported" },
  812: { name: "CUDA_ERROR_CDP_VERSION_MISMATCH", text: "the dynamic parallelism versions do not match" },
  900: {
    name: "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
    text: "the operation is not permitted while the stream is being captured",
    advice: "this call cannot be part of a CUDA graph: do it before the capture",
  },
  901: {
    name: "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
    text: "the capture was invalidated by an earlier error",
    advice: "the first error inside the capture is the cause",
  },
  902: { name: "CUDA_ERROR_STREAM_CAPTURE_MERGE", text: "two captures would be merged" },
  903: { name: "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", text: "the capture was not begun on this stream" },
  904: {
    name: "CUDA_ERROR_STREAM_CAPTURE_UNJOINED",
    text: "the capture has work on a stream that was not joined again",
    advice: "wait for the other stream with an event before the capture ends",
  },
  905: { name: "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", text: "a dependency crosses the border of the capture" },
  906: { name: "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT", text: "the default stream was used during a capture" },
  907: { name: "CUDA_ERROR_CAPTURED_EVENT", text: "the event was recorded in a capture" },
  908: { name: "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD", text: "the capture was begun on another thread" },
  909: { name: "CUDA_ERROR_TIMEOUT", text: "a wait ran into its time limit" },
  910: { name: "CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE", text: "the graph differs too much for an update" },
  911: { name: "CUDA_ERROR_EXTERNAL_DEVICE", text: "a device outside CUDA failed" },
  912: { name: "CUDA_ERROR_INVALID_CLUSTER_SIZE", text: "the cluster size is not valid" },
  913: { name: "CUDA_ERROR_FUNCTION_NOT_LOADED", text: "the function has not been loaded" },
  914: { name: "CUDA_ERROR_INVALID_RESOURCE_TYPE", text: "the resource type is not valid" },
  915: { name: "CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION", text: "the resource configuration is not valid" },
  916: { name: "CUDA_ERROR_KEY_ROTATION", text: "the key of a confidential-computing channel is being rotated" },
  999: {
    name: "CUDA_ERROR_UNKNOWN",
    text: "an unknown internal error happened",
    advice: "restart the process; if it persists, `nvidia-smi` and the kernel log may say more",
    sticky: true,
  },
};

/** The entry for a status; newer drivers may have ones that this table lacks. */
export function cudaResult(status: number): CudaResult {
  return (
    cudaResults[status] ?? { name: `CUresult ${status}`, text: "a status that this version of llcuda does not know" }
  );
}

/** The statuses that code compares with. */
export const CU = {
  success: 0,
  outOfMemory: 2,
  noDevice: 100,
  invalidImage: 200,
  noBinaryForGpu: 209,
  invalidPtx: 218,
  jitCompilerNotFound: 221,
  unsupportedPtxVersion: 222,
  jitDisabled: 223,
  notReady: 600,
  peerAccessAlreadyEnabled: 704,
  notSupported: 801,
  graphExecUpdateFailure: 910,
} as const;
