/**
 * The one interface that both devices implement: the CUDA driver over FFI (src/driver/cuda/) and the software device
 * (src/sim). It has the driver's shape (opaque handles, explicit streams) because everything above it (pool, streams,
 * graphs, kernels) is written once, against this.
 *
 * Failures throw: CudaError with the driver's name for the status, or one of its relatives. Contexts: every call takes
 * effect in the context that `setCurrent` named last on this thread; Device does that, nobody else calls it.
 * Sizes are numbers in bytes; addresses and handles are branded bigints so that one cannot be passed for another.
 */

import type {
  ContextHandle,
  DevicePtr,
  EventHandle,
  FunctionHandle,
  GraphExecHandle,
  GraphHandle,
  ModuleHandle,
  StreamHandle,
} from "../ffi/handles.ts";

export type {
  ContextHandle,
  DevicePtr,
  EventHandle,
  FunctionHandle,
  GraphExecHandle,
  GraphHandle,
  Handle,
  ModuleHandle,
  StreamHandle,
} from "../ffi/handles.ts";

export const nullPtr = 0n as DevicePtr;

export function ptrAdd(p: DevicePtr, bytes: number): DevicePtr {
  return (p + BigInt(bytes)) as DevicePtr;
}

/**
 * Host memory at a fixed address: pinned (copies from and to it may be asynchronous) or engine-allocated (arguments).
 * `address` is 0n on the software device, which uses `buffer`.
 */
export interface HostBlock {
  readonly address: bigint;
  readonly buffer: ArrayBuffer;
  /** The address under which kernels may access this memory (mapped pinned memory); undefined for other memory. */
  readonly devicePtr: DevicePtr | undefined;
}

/** Grid and block are in blocks and threads; `sharedBytes` is dynamic shared memory. */
export interface LaunchShape {
  readonly grid: readonly [number, number, number];
  readonly block: readonly [number, number, number];
  readonly sharedBytes: number;
  /** Neighbours along x that run at once and share their memory (sm_90 and newer), of which grid[0] is a multiple; default 1. */
  readonly cluster?: number;
}

export interface DeviceAttributes {
  readonly name: string;
  /** `"GPU-…"` as nvidia-smi prints it. */
  readonly uuid: string;
  readonly totalMemory: number;
  /** Compute capability times ten: 90 for sm_90. */
  readonly capability: number;
  readonly multiprocessors: number;
  readonly warpSize: number;
  readonly maxThreadsPerBlock: number;
  readonly maxThreadsPerMultiprocessor: number;
  readonly maxGridY: number;
  readonly sharedPerBlock: number;
  readonly sharedPerBlockOptin: number;
  readonly sharedPerMultiprocessor: number;
  readonly registersPerBlock: number;
  readonly l2Bytes: number;
  readonly clockKhz: number;
  readonly memoryClockKhz: number;
  readonly memoryBusBits: number;
  readonly integrated: boolean;
  readonly unifiedAddressing: boolean;
  /** What is submitted has finished when the call returns: there is nothing to gain from working ahead. */
  readonly synchronous: boolean;
  readonly pciBus: string;
}

export interface FunctionAttributes {
  readonly registers: number;
  readonly staticShared: number;
  readonly localBytes: number;
  readonly maxThreads: number;
}

/**
 * An array of up to five dimensions as the bulk tensor copy engine (TMA, sm_90 and newer) addresses it, innermost
 * dimension first. Elements outside `dims` read as zero and are not written.
 */
export interface TensorMapLayout {
  /** 16-byte aligned. */
  readonly address: DevicePtr;
  readonly element: "f16" | "bf16" | "f32" | "u8";
  /** Sizes in elements, 1 to 2^32 each. */
  readonly dims: readonly number[];
  /** Distances in bytes from one index to the next of every dimension but the innermost; multiples of 16, below 2^40. */
  readonly strideBytes: readonly number[];
  /** The block that one copy moves, in elements of each dimension: at most 256, the innermost a multiple of 16 bytes. */
  readonly box: readonly number[];
  /** Bytes of the swizzle that the block gets in shared memory; the innermost side of the block must not exceed it. */
  readonly swizzle: 0 | 32 | 64 | 128;
}

export interface DriverApi {
  readonly kind: "cuda" | "sim";
  /** 13000 for CUDA 13.0, as cuDriverGetVersion reports it. */
  driverVersion(): number;

  deviceCount(): number;
  deviceAttributes(ordinal: number): DeviceAttributes;
  retainContext(ordinal: number): ContextHandle;
  releaseContext(ordinal: number): void;
  setCurrent(context: ContextHandle): void;
  synchronize(): void;
  memoryInfo(): { freeBytes: number; totalBytes: number };

  canAccessPeer(ordinal: number, peer: number): boolean;
  /** Lets the current context read and write the memory of `peer`; a second call does nothing. */
  enablePeerAccess(peer: ContextHandle): void;

  /**
   * True where the device checks accesses: memory pools then take every buffer from it separately, and in its own size.
   */
  readonly separateAllocations?: boolean;
  /** `tag` names the owner in the device's reports, where it makes any. Throws OutOfMemoryError. */
  allocate(bytes: number, tag?: string): DevicePtr;
  free(ptr: DevicePtr): void;
  /** Page-locked host memory, mapped into the device's address space. Throws OutOfMemoryError. */
  allocateHost(bytes: number): HostBlock;
  freeHost(block: HostBlock): void;
  /**
   * Host memory for launch arguments and the like, not page-locked, 64-byte aligned; lives as long as the block is reachable.
   * `parameterOffsets` (where each parameter lies in it) is for kernels with a tensor map: the compiler aligns that in the
   * constant bank, so that the parameters do not lie there as in a C structure, and must be handed over one by one.
   */
  scratch(bytes: number, parameterOffsets?: readonly number[]): HostBlock;

  /** Asynchronous when `src` is pinned. */
  copyToDevice(dst: DevicePtr, src: HostBlock, srcOffset: number, bytes: number, stream: StreamHandle): void;
  copyToHost(dst: HostBlock, dstOffset: number, src: DevicePtr, bytes: number, stream: StreamHandle): void;
  copyOnDevice(dst: DevicePtr, src: DevicePtr, bytes: number, stream: StreamHandle): void;
  copyPeer(
    dst: DevicePtr,
    dstContext: ContextHandle,
    src: DevicePtr,
    srcContext: ContextHandle,
    bytes: number,
    stream: StreamHandle,
  ): void;
  fill8(dst: DevicePtr, value: number, count: number, stream: StreamHandle): void;
  fill32(dst: DevicePtr, value: number, count: number, stream: StreamHandle): void;

  createStream(priority: number): StreamHandle;
  destroyStream(stream: StreamHandle): void;
  synchronizeStream(stream: StreamHandle): void;
  /** True when everything submitted has finished. */
  queryStream(stream: StreamHandle): boolean;
  waitEvent(stream: StreamHandle, event: EventHandle): void;

  createEvent(timing: boolean): EventHandle;
  destroyEvent(event: EventHandle): void;
  recordEvent(event: EventHandle, stream: StreamHandle): void;
  synchronizeEvent(event: EventHandle): void;
  queryEvent(event: EventHandle): boolean;
  /** Milliseconds between two recorded events created with timing. */
  elapsedMs(start: EventHandle, end: EventHandle): number;

  /** Compiles PTX text for the current device. Throws ModuleError with the compiler's log. */
  loadModule(ptx: Uint8Array, name: string): ModuleHandle;
  unloadModule(module: ModuleHandle): void;
  /** Throws CudaError CUDA_ERROR_NOT_FOUND. */
  getFunction(module: ModuleHandle, name: string): FunctionHandle;
  functionAttributes(fn: FunctionHandle): FunctionAttributes;
  /** Raises the dynamic shared memory that launches of `fn` may use above 48 KB. */
  setMaxDynamicShared(fn: FunctionHandle, bytes: number): void;
  maxActiveBlocksPerMultiprocessor(fn: FunctionHandle, blockThreads: number, sharedBytes: number): number;

  /**
   * Launches with arguments packed in C order and natural alignment in the first `argBytes` bytes of `args`.
   * The arguments are copied before this returns, so that the block may be reused at once.
   * `overlap` asks for programmatic stream serialization (sm_90 and newer; others ignore it): the kernel may start
   * before the previous one in the stream ends and calls griddepcontrol.wait before it reads that one's results.
   */
  launch(
    fn: FunctionHandle,
    shape: LaunchShape,
    stream: StreamHandle,
    args: HostBlock,
    argBytes: number,
    overlap: boolean,
  ): void;

  /**
   * Writes the CUtensorMap (128 bytes, opaque) of `layout` to the start of `map`, a block from `scratch`. Kernels take it
   * by value. Throws CudaError for a layout that cuTensorMapEncodeTiled refuses, UnsupportedError where the driver
   * (before 12.0) or the device has none.
   */
  encodeTensorMap(map: HostBlock, layout: TensorMapLayout): void;

  /**
   * Everything submitted to `stream` until `endCapture` becomes a graph instead of running. The capture is relaxed
   * (CU_STREAM_CAPTURE_MODE_RELAXED), so that memory may be allocated and modules loaded while it lasts.
   */
  beginCapture(stream: StreamHandle): void;
  endCapture(stream: StreamHandle): GraphHandle;
  destroyGraph(graph: GraphHandle): void;
  graphNodeCount(graph: GraphHandle): number;
  instantiateGraph(graph: GraphHandle): GraphExecHandle;
  /** Puts another graph of the same topology into `exec`; false when it differs too much and must be instantiated. */
  updateGraph(exec: GraphExecHandle, graph: GraphHandle): boolean;
  launchGraph(exec: GraphExecHandle, stream: StreamHandle): void;
  destroyGraphExec(exec: GraphExecHandle): void;
}
