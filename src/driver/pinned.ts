import { StateError } from "../base/errors.ts";
import type { DevicePtr, HostBlock } from "./api.ts";
import type { Device } from "./device.ts";

/**
 * Page-locked host memory: the source and target of asynchronous copies, readable and writable as an ArrayBuffer, and
 * visible to kernels at `devicePtr`.
 */
export class PinnedBuffer implements Disposable {
  readonly device: Device;
  readonly bytes: number;
  readonly #block: HostBlock;
  #disposed = false;

  /** Use `device.allocatePinned()`. */
  constructor(device: Device, block: HostBlock, bytes: number) {
    this.device = device;
    this.#block = block;
    this.bytes = bytes;
  }

  get block(): HostBlock {
    if (this.#disposed)
      throw new StateError("PinnedBuffer: used after dispose(); its memory has gone back to the driver");
    return this.#block;
  }

  get buffer(): ArrayBuffer {
    return this.block.buffer;
  }

  get devicePtr(): DevicePtr {
    return this.block.devicePtr as DevicePtr;
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.device.makeCurrent();
    this.device.api.freeHost(this.#block);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
