import { StateError } from "../base/errors.ts";
import type { ContextHandle, DeviceAttributes, DriverApi } from "./api.ts";
import { Event } from "./event.ts";
import type { DeviceBuffer, MemoryPool } from "./memory.ts";
import { Module } from "./module.ts";
import { PinnedBuffer } from "./pinned.ts";
import { DeviceMemory } from "./pool/device-memory.ts";
import { CachingPool } from "./pool.ts";
import { Stream } from "./stream.ts";

/** The context that is current on this thread, by driver: switching is a driver call, so it is made only on change. */
const current = new WeakMap<DriverApi, ContextHandle>();

/** One GPU (or software device) with its primary context, its memory pool and its main stream. */
export class Device implements Disposable {
  readonly api: DriverApi;
  readonly ordinal: number;
  /** `cuda:0`, `sim:sm_80`. */
  readonly name: string;
  readonly attributes: DeviceAttributes;
  readonly context: ContextHandle;
  /** Streams whose work is being captured now; they add and remove themselves. */
  readonly captures = new Set<Stream>();
  readonly #memory: DeviceMemory;
  /** Where work goes that names no other stream. */
  readonly stream: Stream;
  #disposed = false;

  /** Use `openDevice()`. */
  constructor(api: DriverApi, ordinal: number, name: string) {
    this.api = api;
    this.ordinal = ordinal;
    this.name = name;
    this.attributes = api.deviceAttributes(ordinal);
    this.context = api.retainContext(ordinal);
    this.#memory = new DeviceMemory(this);
    this.stream = this.createStream();
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** Makes this device's context the one that driver calls on this thread act in. */
  makeCurrent(): void {
    if (this.#disposed) throw new StateError(`${this.name}: used after dispose(); open it again with openDevice()`);
    if (current.get(this.api) === this.context) return;
    this.api.setCurrent(this.context);
    current.set(this.api, this.context);
  }

  /** True while any stream is being captured: nothing may wait for the device or be freed then. */
  get capturing(): boolean {
    return this.captures.size > 0;
  }

  /** The pool that allocations come from: the device's own, or inside `useMemory` the one named there. */
  get memory(): MemoryPool {
    return this.#memory.active;
  }

  /**
   * A pool whose memory stays reserved until it is disposed, whatever is freed in between: what a captured graph needs,
   * whose launches write to the same addresses each time. Tensors made in it outside a capture may be overwritten by a
   * launch of its graphs. Several graphs may share one if they are launched on one stream.
   */
  createMemoryPool(name = "graph"): MemoryPool {
    return new CachingPool(this.#memory, { name, forGraphs: true });
  }

  /** Runs `run`, which must be synchronous, with all allocations on this device coming from `pool`. */
  useMemory<T>(pool: MemoryPool, run: () => T): T {
    return this.#memory.use(pool, run);
  }

  /** Memory for work on `stream` (default: the main stream). Throws OutOfMemoryError. */
  allocate(bytes: number, options: { stream?: Stream; tag?: string } = {}): DeviceBuffer {
    return this.memory.allocate(bytes, options.stream ?? this.stream, options.tag);
  }

  allocatePinned(bytes: number): PinnedBuffer {
    this.makeCurrent();
    return new PinnedBuffer(this, this.api.allocateHost(bytes), bytes);
  }

  /** `priority`: 0 is normal, -1 and lower more urgent. */
  createStream(priority = 0): Stream {
    this.makeCurrent();
    return new Stream(this, this.api.createStream(priority));
  }

  createEvent(options: { timing?: boolean } = {}): Event {
    this.makeCurrent();
    return new Event(this, this.api.createEvent(options.timing ?? false));
  }

  /** Compiles PTX. `name` appears in errors. Throws ModuleError with the compiler's log. */
  loadModule(ptx: Uint8Array, name: string): Module {
    this.makeCurrent();
    return new Module(this, name, this.api.loadModule(ptx, name));
  }

  memoryInfo(): { freeBytes: number; totalBytes: number } {
    this.makeCurrent();
    return this.api.memoryInfo();
  }

  /** Lets kernels here access memory of `peer`; false when the hardware cannot. */
  enablePeerAccess(peer: Device): boolean {
    if (!this.api.canAccessPeer(this.ordinal, peer.ordinal)) return false;
    this.makeCurrent();
    this.api.enablePeerAccess(peer.context);
    return true;
  }

  /** Waits for everything submitted to any of this device's streams. */
  synchronize(): void {
    this.makeCurrent();
    this.api.synchronize();
  }

  dispose(): void {
    if (this.#disposed) return;
    this.synchronize();
    this.stream.dispose();
    this.#memory.resetAll();
    this.#disposed = true;
    if (current.get(this.api) === this.context) current.delete(this.api);
    this.api.releaseContext(this.ordinal);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
