import type { Device } from "../driver/device.ts";
import type { DeviceBuffer } from "../driver/memory.ts";

/**
 * Device memory that several tensors (a tensor and its views) look at. It is freed when the last of them is disposed.
 * A new storage counts as held once.
 */
export class Storage {
  readonly device: Device;
  readonly buffer: DeviceBuffer;
  #holders = 1;

  constructor(device: Device, buffer: DeviceBuffer) {
    this.device = device;
    this.buffer = buffer;
  }

  static allocate(device: Device, bytes: number, tag?: string): Storage {
    return new Storage(device, device.allocate(bytes, tag === undefined ? {} : { tag }));
  }

  retain(): this {
    this.#holders++;
    return this;
  }

  release(): void {
    if (--this.#holders === 0) this.buffer.dispose();
  }
}
