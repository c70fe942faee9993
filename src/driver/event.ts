import type { EventHandle } from "./api.ts";
import type { Device } from "./device.ts";

/** A point in a stream's work: to wait for, or (with timing) to measure between. */
export class Event implements Disposable {
  readonly device: Device;
  readonly handle: EventHandle;
  #disposed = false;

  /** Use `device.createEvent()`. */
  constructor(device: Device, handle: EventHandle) {
    this.device = device;
    this.handle = handle;
  }

  synchronize(): void {
    this.device.makeCurrent();
    this.device.api.synchronizeEvent(this.handle);
  }

  /** True when the work before the event has finished. */
  get done(): boolean {
    this.device.makeCurrent();
    return this.device.api.queryEvent(this.handle);
  }

  /** Milliseconds from `start` to this event; both need timing and must have been reached. */
  elapsedMs(start: Event): number {
    this.device.makeCurrent();
    return this.device.api.elapsedMs(start.handle, this.handle);
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.device.makeCurrent();
    this.device.api.destroyEvent(this.handle);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
