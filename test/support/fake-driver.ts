import { CudaError, ModuleError } from "../../src/base/errors.ts";
import type {
  ContextHandle,
  DeviceAttributes,
  DevicePtr,
  DriverApi,
  EventHandle,
  FunctionAttributes,
  FunctionHandle,
  GraphExecHandle,
  GraphHandle,
  HostBlock,
  LaunchShape,
  ModuleHandle,
  StreamHandle,
} from "../../src/driver/api.ts";
import { Device } from "../../src/driver/device.ts";
import type { Stream } from "../../src/driver/stream.ts";
import { FakeMemory } from "./fake-memory.ts";
import { FakeStreams, found } from "./fake-streams.ts";

const GiB = 1024 ** 3;

/** One launch as it ran. */
export interface FakeLaunch {
  readonly symbol: string;
  readonly shape: LaunchShape;
  readonly args: DataView;
  readonly memory: (ptr: DevicePtr, bytes: number) => Uint8Array;
}

interface FakeModule {
  readonly name: string;
  readonly symbols: readonly string[];
  readonly context: ContextHandle;
}

let nextHandle = 0x1000n;

/**
 * A driver in memory: addresses with bounds, streams as queues that can be held, events, captures and graphs, modules by
 * their `.entry` names. Kernels do nothing unless `kernels` has a function for their symbol. It is as strict as the real
 * driver, or stricter: a wrong handle, an access out of bounds, or a wait during a capture throws CudaError.
 */
export class FakeDriver implements DriverApi {
  readonly kind = "sim";
  readonly memories: readonly FakeMemory[];
  readonly streams = new FakeStreams();
  /** What kernels do, by symbol. */
  readonly kernels = new Map<string, (launch: FakeLaunch) => void>();
  readonly launches: FakeLaunch[] = [];
  readonly #modules = new Map<ModuleHandle, FakeModule>();
  readonly #functions = new Map<FunctionHandle, { module: ModuleHandle; symbol: string; dynamicShared: number }>();
  readonly #pinned = new Set<HostBlock>();
  readonly #retained = new Map<ContextHandle, number>();
  readonly #peers = new Set<string>();
  #current: ContextHandle | undefined;

  constructor(options: { devices?: number; totalBytes?: number } = {}) {
    const { devices = 1, totalBytes = 4 * GiB } = options;
    this.memories = Array.from({ length: devices }, () => new FakeMemory(totalBytes));
  }

  /** Nothing that was created is left: streams, events, graphs, modules, pinned and device memory, contexts. */
  get leaks(): string[] {
    const counts = {
      streams: this.streams.liveStreams,
      events: this.streams.liveEvents,
      graphs: this.streams.liveGraphs,
      modules: this.#modules.size,
      "pinned buffers": this.#pinned.size,
      allocations: this.memories.reduce((n, memory) => n + memory.liveAllocations, 0),
      contexts: this.#retained.size,
    };
    return Object.entries(counts).flatMap(([what, count]) => (count === 0 ? [] : [`${count} ${what}`]));
  }

  /** Keeps what is submitted to `stream` from running. */
  hold(stream: Stream): void {
    this.streams.hold(stream.handle);
  }

  release(stream: Stream): void {
    this.streams.release(stream.handle);
  }

  driverVersion(): number {
    return 13000;
  }

  deviceCount(): number {
    return this.memories.length;
  }

  deviceAttributes(ordinal: number): DeviceAttributes {
    return {
      name: "Fake GPU",
      uuid: `GPU-fake-${ordinal}`,
      totalMemory: this.memories[ordinal]!.totalBytes,
      capability: 80,
      multiprocessors: 8,
      warpSize: 32,
      maxThreadsPerBlock: 1024,
      maxThreadsPerMultiprocessor: 2048,
      maxGridY: 65535,
      sharedPerBlock: 48 * 1024,
      sharedPerBlockOptin: 160 * 1024,
      sharedPerMultiprocessor: 164 * 1024,
      registersPerBlock: 65536,
      l2Bytes: 4 * 1024 * 1024,
      clockKhz: 1_000_000,
      memoryClockKhz: 1_000_000,
      memoryBusBits: 256,
      integrated: false,
      unifiedAddressing: true,
      synchronous: false,
      pciBus: `0000:0${ordinal}:00.0`,
    };
  }

  retainContext(ordinal: number): ContextHandle {
    const context = BigInt(ordinal + 1) as ContextHandle;
    this.#retained.set(context, (this.#retained.get(context) ?? 0) + 1);
    return context;
  }

  releaseContext(ordinal: number): void {
    const context = BigInt(ordinal + 1) as ContextHandle;
    const count = found(this.#retained.get(context), "cuDevicePrimaryCtxRelease_v2") - 1;
    if (count === 0) {
      this.#retained.delete(context);
      this.streams.dropContext(context);
    } else this.#retained.set(context, count);
    if (this.#current === context) this.#current = undefined;
  }

  setCurrent(context: ContextHandle): void {
    found(this.#retained.get(context), "cuCtxSetCurrent");
    this.#current = context;
  }

  synchronize(): void {
    this.streams.synchronizeContext(this.#context("cuCtxSynchronize"));
  }

  memoryInfo(): { freeBytes: number; totalBytes: number } {
    const { freeBytes, totalBytes } = this.#memory("cuMemGetInfo_v2");
    return { freeBytes, totalBytes };
  }

  canAccessPeer(ordinal: number, peer: number): boolean {
    return ordinal !== peer;
  }

  enablePeerAccess(peer: ContextHandle): void {
    this.#peers.add(`${this.#context("cuCtxEnablePeerAccess")}>${peer}`);
  }

  allocate(bytes: number): DevicePtr {
    return this.#memory("cuMemAlloc_v2").allocate(bytes);
  }

  free(ptr: DevicePtr): void {
    this.streams.refuseDuringCapture("cuMemFree_v2");
    this.#memory("cuMemFree_v2").free(ptr);
  }

  allocateHost(bytes: number): HostBlock {
    const block = { address: 0n, buffer: new ArrayBuffer(bytes), devicePtr: undefined };
    this.#pinned.add(block);
    return block;
  }

  freeHost(block: HostBlock): void {
    if (!this.#pinned.delete(block)) throw invalid("cuMemFreeHost");
  }

  scratch(bytes: number): HostBlock {
    return { address: 0n, buffer: new ArrayBuffer(bytes), devicePtr: undefined };
  }

  copyToDevice(dst: DevicePtr, src: HostBlock, srcOffset: number, bytes: number, stream: StreamHandle): void {
    const memory = this.#memory("cuMemcpyHtoDAsync_v2");
    const source = new Uint8Array(src.buffer, srcOffset, bytes);
    // Pinned memory is read when the copy runs, other memory before the call returns.
    const data = this.#pinned.has(src) ? source : source.slice();
    this.streams.submit(stream, () => memory.bytes(dst, bytes).set(data), "cuMemcpyHtoDAsync_v2");
  }

  copyToHost(dst: HostBlock, dstOffset: number, src: DevicePtr, bytes: number, stream: StreamHandle): void {
    const memory = this.#memory("cuMemcpyDtoHAsync_v2");
    const target = new Uint8Array(dst.buffer, dstOffset, bytes);
    this.streams.submit(stream, () => target.set(memory.bytes(src, bytes)), "cuMemcpyDtoHAsync_v2");
  }

  copyOnDevice(dst: DevicePtr, src: DevicePtr, bytes: number, stream: StreamHandle): void {
    const memory = this.#memory("cuMemcpyDtoDAsync_v2");
    const run = () => memory.bytes(dst, bytes).set(memory.bytes(src, bytes));
    this.streams.submit(stream, run, "cuMemcpyDtoDAsync_v2");
  }

  copyPeer(
    dst: DevicePtr,
    dstContext: ContextHandle,
    src: DevicePtr,
    srcContext: ContextHandle,
    bytes: number,
    stream: StreamHandle,
  ): void {
    const to = this.memories[Number(dstContext) - 1]!;
    const from = this.memories[Number(srcContext) - 1]!;
    this.streams.submit(stream, () => to.bytes(dst, bytes).set(from.bytes(src, bytes)), "cuMemcpyPeerAsync");
  }

  fill8(dst: DevicePtr, value: number, count: number, stream: StreamHandle): void {
    const memory = this.#memory("cuMemsetD8Async");
    this.streams.submit(stream, () => memory.bytes(dst, count).fill(value), "cuMemsetD8Async");
  }

  fill32(dst: DevicePtr, value: number, count: number, stream: StreamHandle): void {
    const memory = this.#memory("cuMemsetD32Async");
    const word = new Uint8Array(Uint32Array.of(value).buffer);
    const run = () => {
      const bytes = memory.bytes(dst, 4 * count);
      for (let i = 0; i < bytes.length; i++) bytes[i] = word[i % 4]!;
    };
    this.streams.submit(stream, run, "cuMemsetD32Async");
  }

  createStream(_priority: number): StreamHandle {
    return this.streams.create(this.#context("cuStreamCreateWithPriority"));
  }

  destroyStream(stream: StreamHandle): void {
    this.streams.destroy(stream);
  }

  synchronizeStream(stream: StreamHandle): void {
    this.streams.synchronize(stream);
  }

  queryStream(stream: StreamHandle): boolean {
    return this.streams.idle(stream);
  }

  waitEvent(stream: StreamHandle, event: EventHandle): void {
    this.streams.wait(stream, event);
  }

  createEvent(timing: boolean): EventHandle {
    return this.streams.createEvent(this.#context("cuEventCreate"), timing);
  }

  destroyEvent(event: EventHandle): void {
    this.streams.destroyEvent(event);
  }

  recordEvent(event: EventHandle, stream: StreamHandle): void {
    this.streams.record(event, stream);
  }

  synchronizeEvent(event: EventHandle): void {
    this.streams.synchronizeEvent(event);
  }

  queryEvent(event: EventHandle): boolean {
    return this.streams.queryEvent(event);
  }

  elapsedMs(start: EventHandle, end: EventHandle): number {
    return this.streams.elapsedMs(start, end);
  }

  loadModule(ptx: Uint8Array, name: string): ModuleHandle {
    const text = new TextDecoder().decode(ptx);
    const symbols = [...text.matchAll(/\.entry\s+(\w+)/g)].map((match) => match[1]!);
    if (symbols.length === 0) throw new ModuleError(`${name}: no entry point`, "fake: no .entry found");
    const handle = nextHandle++ as ModuleHandle;
    this.#modules.set(handle, { name, symbols, context: this.#context("cuModuleLoadDataEx") });
    return handle;
  }

  unloadModule(module: ModuleHandle): void {
    found(this.#modules.get(module), "cuModuleUnload");
    this.#modules.delete(module);
  }

  getFunction(module: ModuleHandle, symbol: string): FunctionHandle {
    const { symbols, name } = found(this.#modules.get(module), "cuModuleGetFunction");
    if (!symbols.includes(symbol)) {
      throw new CudaError(
        "cuModuleGetFunction",
        500,
        "CUDA_ERROR_NOT_FOUND",
        `cuModuleGetFunction: ${symbol} in ${name}`,
      );
    }
    const handle = nextHandle++ as FunctionHandle;
    this.#functions.set(handle, { module, symbol, dynamicShared: 48 * 1024 });
    return handle;
  }

  functionAttributes(fn: FunctionHandle): FunctionAttributes {
    found(this.#functions.get(fn), "cuFuncGetAttribute");
    return { registers: 32, staticShared: 0, localBytes: 0, maxThreads: 1024 };
  }

  setMaxDynamicShared(fn: FunctionHandle, bytes: number): void {
    if (bytes > 160 * 1024) throw invalid("cuFuncSetAttribute");
    found(this.#functions.get(fn), "cuFuncSetAttribute").dynamicShared = bytes;
  }

  maxActiveBlocksPerMultiprocessor(fn: FunctionHandle, blockThreads: number, sharedBytes: number): number {
    found(this.#functions.get(fn), "cuOccupancyMaxActiveBlocksPerMultiprocessor");
    return Math.min(Math.floor(2048 / blockThreads), sharedBytes > 0 ? Math.floor((164 * 1024) / sharedBytes) : 32);
  }

  launch(
    fn: FunctionHandle,
    shape: LaunchShape,
    stream: StreamHandle,
    args: HostBlock,
    argBytes: number,
    _overlap: boolean,
  ): void {
    const { module, symbol, dynamicShared } = found(this.#functions.get(fn), "cuLaunchKernel");
    found(this.#modules.get(module), "cuLaunchKernel");
    const threads = shape.block.reduce((a, b) => a * b, 1);
    const sizes = [...shape.grid, ...shape.block];
    if (sizes.some((n) => !(n >= 1)) || threads > 1024 || shape.sharedBytes > dynamicShared) {
      throw invalid("cuLaunchKernel");
    }
    const memory = this.#memory("cuLaunchKernel");
    const launch: FakeLaunch = {
      symbol,
      shape: { grid: [...shape.grid], block: [...shape.block], sharedBytes: shape.sharedBytes },
      args: new DataView(args.buffer.slice(0, argBytes)),
      memory: (ptr, bytes) => memory.bytes(ptr, bytes),
    };
    const run = () => {
      this.launches.push(launch);
      this.kernels.get(symbol)?.(launch);
    };
    this.streams.submit(stream, run, "cuLaunchKernel");
  }

  encodeTensorMap(map: HostBlock): void {
    new Uint8Array(map.buffer, 0, 128).fill(0);
  }

  beginCapture(stream: StreamHandle): void {
    this.streams.beginCapture(stream);
  }

  endCapture(stream: StreamHandle): GraphHandle {
    return this.streams.endCapture(stream);
  }

  destroyGraph(graph: GraphHandle): void {
    this.streams.destroyGraph(graph);
  }

  graphNodeCount(graph: GraphHandle): number {
    return this.streams.nodeCount(graph);
  }

  instantiateGraph(graph: GraphHandle): GraphExecHandle {
    return this.streams.instantiate(graph);
  }

  updateGraph(exec: GraphExecHandle, graph: GraphHandle): boolean {
    return this.streams.update(exec, graph);
  }

  launchGraph(exec: GraphExecHandle, stream: StreamHandle): void {
    this.streams.launch(exec, stream);
  }

  destroyGraphExec(exec: GraphExecHandle): void {
    this.streams.destroyExec(exec);
  }

  #context(symbol: string): ContextHandle {
    if (this.#current === undefined) {
      throw new CudaError(symbol, 201, "CUDA_ERROR_INVALID_CONTEXT", `${symbol}: no context is current`);
    }
    return this.#current;
  }

  #memory(symbol: string): FakeMemory {
    return this.memories[Number(this.#context(symbol)) - 1]!;
  }
}

function invalid(symbol: string): CudaError {
  return new CudaError(symbol, 1, "CUDA_ERROR_INVALID_VALUE", `${symbol}: CUDA_ERROR_INVALID_VALUE`);
}

/** A device on a driver of its own. */
export function fakeDevice(options: { totalBytes?: number } = {}): { driver: FakeDriver; device: Device } {
  const driver = new FakeDriver(options);
  return { driver, device: new Device(driver, 0, "fake:0") };
}
