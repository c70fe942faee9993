import { CudaError, OutOfMemoryError, StateError, UnsupportedError } from "../../base/errors.ts";
import { CU } from "../../ffi/cuda-results.ts";
import type { FfiEngine, NativeLibrary } from "../../ffi/engine.ts";
import { ffiEngine } from "../../ffi/select.ts";
import type * as api from "../api.ts";
import { readDeviceAttributes } from "./device-info.ts";
import { CudaFaults } from "./errors.ts";
import { GraphCalls } from "./graphs.ts";
import { ArgumentBlock, PinnedBlock } from "./host-memory.ts";
import { Launcher } from "./launch.ts";
import { type CudaDriver, loadCudaDriver } from "./load.ts";
import { PtxLoader } from "./modules.ts";
import { TensorMapEncoder } from "./tensor-map.ts";

/** Flags and attributes, from cuda.h. */
const CU_MEMHOSTALLOC_PORTABLE = 1;
const CU_MEMHOSTALLOC_DEVICEMAP = 2;
const CU_STREAM_NON_BLOCKING = 1;
const CU_STREAM_CAPTURE_MODE_RELAXED = 2;
const CU_EVENT_DEFAULT = 0;
const CU_EVENT_DISABLE_TIMING = 2;
const CU_FUNC_ATTRIBUTE = { maxThreads: 0, staticShared: 1, localBytes: 3, registers: 4, maxDynamicShared: 8 } as const;

/** The CUDA driver. */
export class CudaApi implements api.DriverApi {
  readonly kind = "cuda";
  readonly engine: FfiEngine;
  readonly #faults = new CudaFaults();
  readonly #cu: CudaDriver;
  readonly #version: number;
  readonly #launcher: Launcher;
  readonly #graphs: GraphCalls;
  readonly #tensorMaps: TensorMapEncoder;
  readonly #ptx: PtxLoader;
  /** The contexts of devices from sm_90 on, which can overlap kernels and have tensor maps, and whether one is current. */
  readonly #sm90Contexts = new Set<api.ContextHandle>();
  #sm90 = false;

  /** Throws DeviceError when there is no driver, it is too old, or it has no GPU. `library` replaces the search, in tests. */
  constructor(options: { engine?: FfiEngine; library?: NativeLibrary } = {}) {
    this.engine = options.engine ?? ffiEngine();
    const { cu, version } = loadCudaDriver(this.engine, this.#faults, options.library);
    this.#cu = cu;
    this.#version = version;
    this.#launcher = new Launcher(cu, this.engine);
    this.#graphs = new GraphCalls(cu, this.engine, this.#faults);
    this.#ptx = new PtxLoader(cu, this.engine);
    this.#tensorMaps = new TensorMapEncoder(cu, this.engine);
  }

  /** The file that the driver was loaded from. */
  get libraryPath(): string {
    return this.#cu.path;
  }

  driverVersion(): number {
    return this.#version;
  }

  deviceCount(): number {
    return this.#cu.calls.deviceGetCount();
  }

  deviceAttributes(ordinal: number): api.DeviceAttributes {
    return readDeviceAttributes(this.#cu, this.engine, ordinal);
  }

  retainContext(ordinal: number): api.ContextHandle {
    const context = this.#cu.calls.primaryContextRetain(ordinal);
    const computeCapabilityMajor = 75;
    if (this.#cu.calls.deviceGetAttribute(computeCapabilityMajor, ordinal) >= 9) this.#sm90Contexts.add(context);
    return context;
  }

  releaseContext(ordinal: number): void {
    this.#cu.calls.primaryContextRelease(ordinal);
  }

  setCurrent(context: api.ContextHandle): void {
    this.#cu.calls.contextSetCurrent(context);
    this.#sm90 = this.#sm90Contexts.has(context);
  }

  synchronize(): void {
    this.#cu.calls.contextSynchronize();
  }

  memoryInfo(): { freeBytes: number; totalBytes: number } {
    const [freeBytes, totalBytes] = this.#cu.calls.memGetInfo();
    return { freeBytes, totalBytes };
  }

  canAccessPeer(ordinal: number, peer: number): boolean {
    return ordinal !== peer && this.#cu.calls.deviceCanAccessPeer(ordinal, peer) !== 0;
  }

  enablePeerAccess(peer: api.ContextHandle): void {
    const status = this.#cu.calls.contextEnablePeerAccess(peer, 0);
    if (status !== CU.success && status !== CU.peerAccessAlreadyEnabled) {
      this.#faults.fail("cuCtxEnablePeerAccess", status);
    }
  }

  allocate(bytes: number): api.DevicePtr {
    return this.#allocating(bytes, "device memory", () => this.#cu.calls.memAlloc(bytes));
  }

  free(ptr: api.DevicePtr): void {
    this.#cu.calls.memFree(ptr);
  }

  allocateHost(bytes: number): api.HostBlock {
    const flags = CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP;
    const address = this.#allocating(bytes, "pinned host memory", () =>
      this.#cu.calls.memHostAlloc(Math.max(bytes, 1), flags),
    );
    const devicePtr = this.#cu.calls.memHostGetDevicePointer(address, 0);
    return new PinnedBlock(address, this.engine.view(address, bytes), devicePtr);
  }

  freeHost(block: api.HostBlock): void {
    this.#cu.calls.memFreeHost(block.address);
  }

  scratch(bytes: number, parameterOffsets: readonly number[] = []): api.HostBlock {
    return new ArgumentBlock(this.engine, bytes, parameterOffsets);
  }

  copyToDevice(
    dst: api.DevicePtr,
    src: api.HostBlock,
    srcOffset: number,
    bytes: number,
    stream: api.StreamHandle,
  ): void {
    this.#cu.calls.memcpyHostToDevice(dst, offset(src, srcOffset), bytes, stream);
  }

  copyToHost(dst: api.HostBlock, dstOffset: number, src: api.DevicePtr, bytes: number, stream: api.StreamHandle): void {
    this.#cu.calls.memcpyDeviceToHost(offset(dst, dstOffset), src, bytes, stream);
  }

  copyOnDevice(dst: api.DevicePtr, src: api.DevicePtr, bytes: number, stream: api.StreamHandle): void {
    this.#cu.calls.memcpyDeviceToDevice(dst, src, bytes, stream);
  }

  copyPeer(
    dst: api.DevicePtr,
    dstContext: api.ContextHandle,
    src: api.DevicePtr,
    srcContext: api.ContextHandle,
    bytes: number,
    stream: api.StreamHandle,
  ): void {
    this.#cu.calls.memcpyPeer(dst, dstContext, src, srcContext, bytes, stream);
  }

  fill8(dst: api.DevicePtr, value: number, count: number, stream: api.StreamHandle): void {
    this.#cu.calls.memset8(dst, value & 0xff, count, stream);
  }

  fill32(dst: api.DevicePtr, value: number, count: number, stream: api.StreamHandle): void {
    this.#cu.calls.memset32(dst, value >>> 0, count, stream);
  }

  createStream(priority: number): api.StreamHandle {
    return this.#cu.calls.streamCreate(CU_STREAM_NON_BLOCKING, priority);
  }

  destroyStream(stream: api.StreamHandle): void {
    this.#cu.calls.streamDestroy(stream);
  }

  synchronizeStream(stream: api.StreamHandle): void {
    this.#cu.calls.streamSynchronize(stream);
  }

  queryStream(stream: api.StreamHandle): boolean {
    return this.#finished("cuStreamQuery", this.#cu.calls.streamQuery(stream));
  }

  waitEvent(stream: api.StreamHandle, event: api.EventHandle): void {
    this.#cu.calls.streamWaitEvent(stream, event, 0);
  }

  createEvent(timing: boolean): api.EventHandle {
    return this.#cu.calls.eventCreate(timing ? CU_EVENT_DEFAULT : CU_EVENT_DISABLE_TIMING);
  }

  destroyEvent(event: api.EventHandle): void {
    this.#cu.calls.eventDestroy(event);
  }

  recordEvent(event: api.EventHandle, stream: api.StreamHandle): void {
    this.#cu.calls.eventRecord(event, stream);
  }

  synchronizeEvent(event: api.EventHandle): void {
    this.#cu.calls.eventSynchronize(event);
  }

  queryEvent(event: api.EventHandle): boolean {
    return this.#finished("cuEventQuery", this.#cu.calls.eventQuery(event));
  }

  elapsedMs(start: api.EventHandle, end: api.EventHandle): number {
    return this.#cu.calls.eventElapsedTime(start, end);
  }

  loadModule(ptx: Uint8Array, name: string): api.ModuleHandle {
    return this.#ptx.load(ptx, name);
  }

  unloadModule(module: api.ModuleHandle): void {
    this.#cu.calls.moduleUnload(module);
  }

  getFunction(module: api.ModuleHandle, name: string): api.FunctionHandle {
    return this.#cu.calls.moduleGetFunction(module, name);
  }

  functionAttributes(fn: api.FunctionHandle): api.FunctionAttributes {
    const get = (id: number): number => this.#cu.calls.funcGetAttribute(id, fn);
    return {
      registers: get(CU_FUNC_ATTRIBUTE.registers),
      staticShared: get(CU_FUNC_ATTRIBUTE.staticShared),
      localBytes: get(CU_FUNC_ATTRIBUTE.localBytes),
      maxThreads: get(CU_FUNC_ATTRIBUTE.maxThreads),
    };
  }

  setMaxDynamicShared(fn: api.FunctionHandle, bytes: number): void {
    this.#cu.calls.funcSetAttribute(fn, CU_FUNC_ATTRIBUTE.maxDynamicShared, bytes);
  }

  maxActiveBlocksPerMultiprocessor(fn: api.FunctionHandle, blockThreads: number, sharedBytes: number): number {
    return this.#cu.calls.occupancyMaxActiveBlocks(fn, blockThreads, sharedBytes);
  }

  launch(
    fn: api.FunctionHandle,
    shape: api.LaunchShape,
    stream: api.StreamHandle,
    args: api.HostBlock,
    argBytes: number,
    overlap: boolean,
  ): void {
    if (!(args instanceof ArgumentBlock)) throw new StateError("launch: arguments must be in a block from scratch()");
    this.#launcher.launch(fn, shape, stream, args, argBytes, overlap && this.#sm90);
  }

  encodeTensorMap(map: api.HostBlock, layout: api.TensorMapLayout): void {
    if (!this.#sm90)
      throw new UnsupportedError("tensor map: this GPU has no bulk tensor copies, which need sm_90 or newer");
    this.#tensorMaps.encode(map, layout);
  }

  beginCapture(stream: api.StreamHandle): void {
    this.#cu.calls.streamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED);
  }

  endCapture(stream: api.StreamHandle): api.GraphHandle {
    return this.#cu.calls.streamEndCapture(stream);
  }

  destroyGraph(graph: api.GraphHandle): void {
    this.#cu.calls.graphDestroy(graph);
  }

  graphNodeCount(graph: api.GraphHandle): number {
    return this.#graphs.nodeCount(graph);
  }

  instantiateGraph(graph: api.GraphHandle): api.GraphExecHandle {
    return this.#graphs.instantiate(graph);
  }

  updateGraph(exec: api.GraphExecHandle, graph: api.GraphHandle): boolean {
    return this.#graphs.update(exec, graph);
  }

  launchGraph(exec: api.GraphExecHandle, stream: api.StreamHandle): void {
    this.#cu.calls.graphLaunch(exec, stream);
  }

  destroyGraphExec(exec: api.GraphExecHandle): void {
    this.#cu.calls.graphExecDestroy(exec);
  }

  #finished(symbol: string, status: number): boolean {
    if (status === CU.success) return true;
    if (status === CU.notReady) return false;
    return this.#faults.fail(symbol, status);
  }

  #allocating<T>(bytes: number, what: string, allocate: () => T): T {
    try {
      return allocate();
    } catch (cause) {
      if (!(cause instanceof CudaError) || cause.status !== CU.outOfMemory) throw cause;
      const { freeBytes, totalBytes } = this.memoryInfo();
      throw new OutOfMemoryError(
        `${what}: ${bytes} bytes wanted; the device has ${freeBytes} of ${totalBytes} bytes free (${cause.message})`,
        bytes,
        freeBytes,
      );
    }
  }
}

function offset(block: api.HostBlock, bytes: number): bigint {
  return bytes === 0 ? block.address : block.address + BigInt(bytes);
}
