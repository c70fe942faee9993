import { StateError, UnsupportedError } from "../base/errors.ts";
import type * as api from "../driver/api.ts";
import { SimDevice } from "./device/device.ts";
import { found, simError } from "./device/errors.ts";
import { HostMemory } from "./device/host-memory.ts";
import { SimModules } from "./device/modules.ts";
import { SimStreams } from "./device/streams.ts";
import { devicesPerTarget, simAttributes, simTargets } from "./device/targets.ts";
import type { LaunchWatcher } from "./run/watch.ts";

/**
 * The driver interface on the CPU: PTX is translated to WebAssembly and runs in the calling thread. Everything that is
 * submitted has finished when the call returns; errors of a kernel are thrown by its launch.
 */
export class SimApi implements api.DriverApi {
  readonly kind = "sim";
  #lastHandle = 0x1000n;
  readonly #newHandle = (): bigint => ++this.#lastHandle;
  readonly #host = new HostMemory();
  readonly #devices: readonly SimDevice[];
  readonly #streams = new SimStreams(this.#newHandle);
  readonly #modules = new SimModules(this.#newHandle);
  readonly #retained = new Map<number, number>();
  #current: SimDevice | undefined;
  /** Every buffer is to be an allocation of its own, so that accesses beside it are found out. */
  readonly separateAllocations: boolean;

  /** `checks`: watch kernels for wrong accesses, races and barriers, see docs/sim.md. */
  constructor(options: { readonly checks: boolean }) {
    this.separateAllocations = options.checks;
    const count = simTargets.length * devicesPerTarget;
    this.#devices = Array.from({ length: count }, (_, i) => new SimDevice(i, this.#host, options.checks));
  }

  driverVersion(): number {
    return 13000;
  }

  deviceCount(): number {
    return this.#devices.length;
  }

  deviceAttributes(ordinal: number): api.DeviceAttributes {
    return simAttributes(ordinal, this.#device(ordinal).totalBytes);
  }

  retainContext(ordinal: number): api.ContextHandle {
    this.#device(ordinal);
    this.#retained.set(ordinal, (this.#retained.get(ordinal) ?? 0) + 1);
    return contextOf(ordinal);
  }

  releaseContext(ordinal: number): void {
    const count = this.#retained.get(ordinal);
    if (count === undefined)
      throw simError("cuDevicePrimaryCtxRelease_v2", "CUDA_ERROR_INVALID_CONTEXT", "not retained");
    if (count > 1) {
      this.#retained.set(ordinal, count - 1);
      return;
    }
    this.#retained.delete(ordinal);
    this.#device(ordinal).dismissThreads();
    this.#streams.dropContext(contextOf(ordinal));
    if (this.#current?.ordinal === ordinal) this.#current = undefined;
  }

  setCurrent(context: api.ContextHandle): void {
    this.#current = this.#ofContext(context, "cuCtxSetCurrent");
  }

  synchronize(): void {
    this.#active("cuCtxSynchronize");
    this.#streams.refuseDuringCapture("cuCtxSynchronize");
  }

  memoryInfo(): { freeBytes: number; totalBytes: number } {
    const { freeBytes, totalBytes } = this.#active("cuMemGetInfo_v2");
    return { freeBytes, totalBytes };
  }

  canAccessPeer(ordinal: number, peer: number): boolean {
    this.#device(peer);
    return this.#device(ordinal).ordinal !== peer;
  }

  enablePeerAccess(peer: api.ContextHandle): void {
    const own = this.#active("cuCtxEnablePeerAccess");
    const other = this.#ofContext(peer, "cuCtxEnablePeerAccess");
    if (own === other)
      throw simError("cuCtxEnablePeerAccess", "CUDA_ERROR_INVALID_DEVICE", "a device is not its own peer");
    own.peers.add(other);
  }

  allocate(bytes: number, tag?: string): api.DevicePtr {
    const device = this.#active("cuMemAlloc_v2");
    if (!(bytes > 0)) throw simError("cuMemAlloc_v2", "CUDA_ERROR_INVALID_VALUE", `${bytes} bytes`);
    return device.allocate(bytes, tag);
  }

  free(ptr: api.DevicePtr): void {
    this.#streams.refuseDuringCapture("cuMemFree_v2");
    this.#active("cuMemFree_v2").free(ptr);
  }

  allocateHost(bytes: number): api.HostBlock {
    if (!(bytes > 0)) throw simError("cuMemHostAlloc", "CUDA_ERROR_INVALID_VALUE", `${bytes} bytes`);
    return this.#host.allocate(bytes);
  }

  freeHost(block: api.HostBlock): void {
    if (!this.#host.free(block)) throw simError("cuMemFreeHost", "CUDA_ERROR_INVALID_VALUE", "not pinned memory");
  }

  scratch(bytes: number): api.HostBlock {
    return { address: 0n, buffer: new ArrayBuffer(bytes), devicePtr: undefined };
  }

  copyToDevice(
    dst: api.DevicePtr,
    src: api.HostBlock,
    srcOffset: number,
    bytes: number,
    stream: api.StreamHandle,
  ): void {
    const symbol = "cuMemcpyHtoDAsync_v2";
    const device = this.#active(symbol);
    const source = hostBytes(src, srcOffset, bytes, symbol);
    // Pinned memory is read when the copy runs, which a graph may do often; other memory before the call returns.
    const data = this.#host.has(src) ? source : source.slice();
    this.#submit(stream, symbol, () => device.writable(dst, bytes, symbol).set(data));
  }

  copyToHost(dst: api.HostBlock, dstOffset: number, src: api.DevicePtr, bytes: number, stream: api.StreamHandle): void {
    const symbol = "cuMemcpyDtoHAsync_v2";
    const device = this.#active(symbol);
    const target = hostBytes(dst, dstOffset, bytes, symbol);
    this.#submit(stream, symbol, () => target.set(device.bytes(src, bytes, symbol)));
  }

  copyOnDevice(dst: api.DevicePtr, src: api.DevicePtr, bytes: number, stream: api.StreamHandle): void {
    const symbol = "cuMemcpyDtoDAsync_v2";
    const device = this.#active(symbol);
    const holder = (ptr: api.DevicePtr) => this.#holder(ptr, device);
    this.#submit(stream, symbol, () => holder(dst).copy(dst, holder(src), src, bytes, symbol));
  }

  copyPeer(
    dst: api.DevicePtr,
    dstContext: api.ContextHandle,
    src: api.DevicePtr,
    srcContext: api.ContextHandle,
    bytes: number,
    stream: api.StreamHandle,
  ): void {
    const symbol = "cuMemcpyPeerAsync";
    const to = this.#ofContext(dstContext, symbol);
    const from = this.#ofContext(srcContext, symbol);
    this.#submit(stream, symbol, () => to.copy(dst, from, src, bytes, symbol));
  }

  fill8(dst: api.DevicePtr, value: number, count: number, stream: api.StreamHandle): void {
    const symbol = "cuMemsetD8Async";
    const device = this.#active(symbol);
    this.#submit(stream, symbol, () => device.writable(dst, count, symbol).fill(value));
  }

  fill32(dst: api.DevicePtr, value: number, count: number, stream: api.StreamHandle): void {
    const symbol = "cuMemsetD32Async";
    const device = this.#active(symbol);
    if (dst % 4n !== 0n)
      throw simError(symbol, "CUDA_ERROR_INVALID_VALUE", `0x${dst.toString(16)} is not a multiple of 4`);
    this.#submit(stream, symbol, () => {
      const { buffer, byteOffset } = device.writable(dst, 4 * count, symbol);
      new Uint32Array(buffer, byteOffset, count).fill(value);
    });
  }

  createStream(_priority: number): api.StreamHandle {
    return this.#streams.create(contextOf(this.#active("cuStreamCreateWithPriority").ordinal));
  }

  destroyStream(stream: api.StreamHandle): void {
    this.#streams.destroy(stream);
  }

  synchronizeStream(stream: api.StreamHandle): void {
    this.#streams.synchronize(stream);
  }

  queryStream(stream: api.StreamHandle): boolean {
    return this.#streams.query(stream);
  }

  waitEvent(stream: api.StreamHandle, event: api.EventHandle): void {
    this.#streams.wait(stream, event);
  }

  createEvent(timing: boolean): api.EventHandle {
    return this.#streams.createEvent(contextOf(this.#active("cuEventCreate").ordinal), timing);
  }

  destroyEvent(event: api.EventHandle): void {
    this.#streams.destroyEvent(event);
  }

  recordEvent(event: api.EventHandle, stream: api.StreamHandle): void {
    this.#streams.record(event, stream);
  }

  synchronizeEvent(event: api.EventHandle): void {
    this.#streams.synchronizeEvent(event);
  }

  queryEvent(event: api.EventHandle): boolean {
    return this.#streams.queryEvent(event);
  }

  elapsedMs(start: api.EventHandle, end: api.EventHandle): number {
    return this.#streams.elapsedMs(start, end);
  }

  loadModule(ptx: Uint8Array, name: string): api.ModuleHandle {
    const device = this.#active("cuModuleLoadDataEx");
    const { capability } = this.deviceAttributes(device.ordinal);
    return this.#modules.load(new TextDecoder().decode(ptx), name, device, capability);
  }

  unloadModule(module: api.ModuleHandle): void {
    this.#modules.unload(module);
  }

  getFunction(module: api.ModuleHandle, name: string): api.FunctionHandle {
    return this.#modules.getFunction(module, name);
  }

  functionAttributes(fn: api.FunctionHandle): api.FunctionAttributes {
    return this.#modules.attributes(fn);
  }

  setMaxDynamicShared(fn: api.FunctionHandle, bytes: number): void {
    const symbol = "cuFuncSetAttribute";
    const found = this.#modules.function(fn, symbol);
    const limit = this.deviceAttributes(found.device.ordinal).sharedPerBlockOptin;
    if (bytes + found.entry.sharedBytes > limit) {
      throw simError(symbol, "CUDA_ERROR_INVALID_VALUE", `${bytes} bytes of shared memory; a block may use ${limit}`);
    }
    found.maxDynamicShared = bytes;
  }

  maxActiveBlocksPerMultiprocessor(fn: api.FunctionHandle, blockThreads: number, sharedBytes: number): number {
    const { device, entry } = this.#modules.function(fn, "cuOccupancyMaxActiveBlocksPerMultiprocessor");
    const { maxThreadsPerMultiprocessor, sharedPerMultiprocessor } = this.deviceAttributes(device.ordinal);
    const shared = entry.sharedBytes + sharedBytes;
    const byThreads = Math.floor(maxThreadsPerMultiprocessor / (Math.ceil(blockThreads / 32) * 32));
    return Math.min(32, byThreads, shared > 0 ? Math.floor(sharedPerMultiprocessor / shared) : 32);
  }

  launch(
    fn: api.FunctionHandle,
    shape: api.LaunchShape,
    stream: api.StreamHandle,
    args: api.HostBlock,
    argBytes: number,
    _overlap: boolean,
  ): void {
    const symbol = "cuLaunchKernel";
    const found = this.#modules.function(fn, symbol);
    const { device, entry, kernel } = found;
    const threads = shape.block[0] * shape.block[1] * shape.block[2];
    const { maxGridY, maxThreadsPerBlock } = this.deviceAttributes(device.ordinal);
    const refuse = (detail: string): never => {
      throw simError(symbol, "CUDA_ERROR_INVALID_VALUE", `${entry.name}: ${detail}`);
    };
    const sizes = [...shape.grid, ...shape.block];
    if (!sizes.every((n) => Number.isInteger(n) && n >= 1)) refuse(`grid [${shape.grid}], block [${shape.block}]`);
    if (shape.grid[0] >= 2 ** 31 || shape.grid[1] > maxGridY || shape.grid[2] > maxGridY)
      refuse(`grid [${shape.grid}]`);
    if (threads > Math.min(maxThreadsPerBlock, entry.maxThreads ?? maxThreadsPerBlock) || shape.block[2] > 64) {
      refuse(`block [${shape.block}]; it may have ${entry.maxThreads ?? maxThreadsPerBlock} threads`);
    }
    if (shape.sharedBytes > found.maxDynamicShared) {
      refuse(`${shape.sharedBytes} bytes of dynamic shared memory; ${found.maxDynamicShared} were asked for`);
    }
    if (argBytes !== entry.parameterBytes) refuse(`${argBytes} bytes of arguments; it takes ${entry.parameterBytes}`);
    const parameters = new Uint8Array(args.buffer, 0, argBytes).slice();
    const { grid, block, sharedBytes } = shape;
    const copy: api.LaunchShape = { grid: [...grid], block: [...block], sharedBytes };
    this.#submit(stream, `launch ${entry.name}`, () => {
      const { watcher } = device;
      const isWatched = watcher && (watcher.kernel ?? entry.name) === entry.name;
      device.run(isWatched ? found.watchedBy(watcher) : kernel, copy, parameters);
    });
  }

  /** Lets `watcher` see every kernel that runs on a device from now on; undefined lets nobody. Throws StateError where one is set. */
  watch(ordinal: number, watcher: LaunchWatcher | undefined): void {
    const device = this.#device(ordinal);
    if (watcher && device.watcher) {
      throw new StateError(
        "sim: kernels of this device are being watched already; dispose the other profiler or tracer first",
      );
    }
    device.watcher = watcher;
  }

  encodeTensorMap(): void {
    throw new UnsupportedError("tensor map: the software device has no bulk tensor copies, which need sm_90 or newer");
  }

  beginCapture(stream: api.StreamHandle): void {
    this.#streams.beginCapture(stream);
  }

  endCapture(stream: api.StreamHandle): api.GraphHandle {
    return this.#streams.endCapture(stream);
  }

  destroyGraph(graph: api.GraphHandle): void {
    this.#streams.destroyGraph(graph);
  }

  graphNodeCount(graph: api.GraphHandle): number {
    return this.#streams.nodeCount(graph);
  }

  instantiateGraph(graph: api.GraphHandle): api.GraphExecHandle {
    return this.#streams.instantiate(graph);
  }

  updateGraph(exec: api.GraphExecHandle, graph: api.GraphHandle): boolean {
    return this.#streams.update(exec, graph);
  }

  launchGraph(exec: api.GraphExecHandle, stream: api.StreamHandle): void {
    this.#streams.launch(exec, stream);
  }

  destroyGraphExec(exec: api.GraphExecHandle): void {
    this.#streams.destroyExec(exec);
  }

  #submit(stream: api.StreamHandle, kind: string, run: () => void): void {
    this.#streams.submit(stream, { kind, run }, kind);
  }

  /** The device whose memory an address lies in, of those that `device` may reach. */
  #holder(ptr: api.DevicePtr, device: SimDevice): SimDevice {
    if (device.owns(ptr)) return device;
    return [...device.peers].find((peer) => peer.owns(ptr)) ?? device;
  }

  #active(symbol: string): SimDevice {
    if (!this.#current) throw simError(symbol, "CUDA_ERROR_INVALID_CONTEXT", "no context is current");
    return this.#current;
  }

  #device(ordinal: number): SimDevice {
    const device = this.#devices[ordinal];
    if (!device) throw simError("cuDeviceGet", "CUDA_ERROR_INVALID_DEVICE", `there is no device ${ordinal}`);
    return device;
  }

  #ofContext(context: api.ContextHandle, symbol: string): SimDevice {
    const device = this.#devices[Number(context) - 1];
    return found(device && this.#retained.has(device.ordinal) ? device : undefined, symbol, "context");
  }
}

function contextOf(ordinal: number): api.ContextHandle {
  return BigInt(ordinal + 1) as api.ContextHandle;
}

function hostBytes(block: api.HostBlock, offset: number, bytes: number, symbol: string): Uint8Array {
  if (offset < 0 || offset + bytes > block.buffer.byteLength) {
    const range = `bytes ${offset} to ${offset + bytes} of a block of ${block.buffer.byteLength}`;
    throw simError(symbol, "CUDA_ERROR_INVALID_VALUE", range);
  }
  return new Uint8Array(block.buffer, offset, bytes);
}
