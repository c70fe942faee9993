import { StateError } from "../base/errors.ts";
import type { DevicePtr, DriverApi, StreamHandle } from "./api.ts";
import type { Device } from "./device.ts";
import type { Event } from "./event.ts";
import { Graph } from "./graph.ts";
import type { PinnedBuffer } from "./pinned.ts";

/** Work on one stream runs in order; different streams may overlap. */
export class Stream implements Disposable {
  readonly device: Device;
  readonly handle: StreamHandle;
  #disposed = false;

  /** Use `device.createStream()`. */
  constructor(device: Device, handle: StreamHandle) {
    this.device = device;
    this.handle = handle;
  }

  get #api(): DriverApi {
    return this.device.api;
  }

  /** True between the start and the end of `capture`: nothing may wait for the device then. */
  get capturing(): boolean {
    return this.device.captures.has(this);
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  synchronize(): void {
    this.device.makeCurrent();
    this.#api.synchronizeStream(this.handle);
  }

  /** True when everything submitted so far has finished. */
  get idle(): boolean {
    this.device.makeCurrent();
    return this.#api.queryStream(this.handle);
  }

  /** Asynchronous; `src` must stay alive and unchanged until the copy has run. */
  copyToDevice(dst: DevicePtr, src: PinnedBuffer, srcOffset: number, bytes: number): void {
    this.device.makeCurrent();
    this.#api.copyToDevice(dst, src.block, srcOffset, bytes, this.handle);
  }

  /** Asynchronous; read `dst` only after an event or `synchronize`. */
  copyToHost(dst: PinnedBuffer, dstOffset: number, src: DevicePtr, bytes: number): void {
    this.device.makeCurrent();
    this.#api.copyToHost(dst.block, dstOffset, src, bytes, this.handle);
  }

  copyOnDevice(dst: DevicePtr, src: DevicePtr, bytes: number): void {
    this.device.makeCurrent();
    this.#api.copyOnDevice(dst, src, bytes, this.handle);
  }

  /** Copies from another device's memory, over NVLink or PCIe where peer access allows, else through the host. */
  copyFromPeer(dst: DevicePtr, src: DevicePtr, srcDevice: Device, bytes: number): void {
    this.device.makeCurrent();
    this.#api.copyPeer(dst, this.device.context, src, srcDevice.context, bytes, this.handle);
  }

  fill8(dst: DevicePtr, value: number, count: number): void {
    this.device.makeCurrent();
    this.#api.fill8(dst, value, count, this.handle);
  }

  fill32(dst: DevicePtr, value: number, count: number): void {
    this.device.makeCurrent();
    this.#api.fill32(dst, value, count, this.handle);
  }

  record(event: Event): void {
    this.device.makeCurrent();
    this.#api.recordEvent(event.handle, this.handle);
  }

  wait(event: Event): void {
    this.device.makeCurrent();
    this.#api.waitEvent(this.handle, event.handle);
  }

  /**
   * Runs `submit`, which must be synchronous and whose launches and copies on this stream become a graph instead of
   * running. What it allocates must come from a pool of its own: `device.useMemory(device.createMemoryPool(), ...)`.
   */
  capture(submit: () => void): Graph {
    if (this.capturing) throw new StateError(`${this.device.name}: capture() inside capture() of the same stream`);
    this.device.makeCurrent();
    this.#api.beginCapture(this.handle);
    this.device.captures.add(this);
    let failed = true;
    try {
      submit();
      failed = false;
    } finally {
      this.device.captures.delete(this);
      if (failed) {
        try {
          this.#api.destroyGraph(this.#api.endCapture(this.handle));
        } catch {
          // The capture was already broken by what `submit` threw; that error is the one to show.
        }
      }
    }
    return new Graph(this.device, this.#api.endCapture(this.handle));
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.device.makeCurrent();
    this.device.memory.forgetStream(this);
    this.#api.destroyStream(this.handle);
  }
}
