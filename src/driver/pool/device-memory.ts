import { ArgumentError, OutOfMemoryError, StateError } from "../../base/errors.ts";
import { settings } from "../../base/settings.ts";
import type { DevicePtr } from "../api.ts";
import type { Device } from "../device.ts";
import type { MemoryPool } from "../memory.ts";
import { CachingPool } from "../pool.ts";
import type { Stream } from "../stream.ts";

/** All pools of one device: what they hold together, under one limit, and which of them is in use. */
export class DeviceMemory {
  readonly device: Device;
  /** The pool of everything that names no other. */
  readonly main: CachingPool;
  readonly #pools = new Set<CachingPool>();
  #active: MemoryPool;
  #reservedBytes = 0;
  #limitBytes: number | undefined;

  constructor(device: Device) {
    this.device = device;
    this.limitBytes = settings.memoryLimitBytes();
    this.main = new CachingPool(this, { name: "main" });
    this.#active = this.main;
  }

  get active(): MemoryPool {
    return this.#active;
  }

  get pools(): Iterable<CachingPool> {
    return this.#pools;
  }

  get reservedBytes(): number {
    return this.#reservedBytes;
  }

  get limitBytes(): number | undefined {
    return this.#limitBytes;
  }

  set limitBytes(bytes: number | undefined) {
    if (bytes !== undefined && !(bytes >= 0)) {
      throw new ArgumentError(
        `memory limit: expected a number of bytes, got ${bytes}; set LLCUDA_MEMORY_LIMIT such as 8589934592`,
      );
    }
    this.#limitBytes = bytes;
  }

  /** Called by pools as they start and end. */
  register(pool: CachingPool): void {
    this.#pools.add(pool);
  }

  unregister(pool: CachingPool): void {
    this.#pools.delete(pool);
  }

  /** Allocations inside `run`, which must be synchronous, come from `pool`. */
  use<T>(pool: MemoryPool, run: () => T): T {
    const before = this.#active;
    this.#active = pool;
    let result: T;
    try {
      result = run();
    } finally {
      this.#active = before;
    }
    if (result instanceof Promise) {
      throw new StateError(
        `${this.device.name}: useMemory() was given an asynchronous function; what it does after its first await would allocate from another pool`,
      );
    }
    return result;
  }

  /** Memory from the driver, or undefined when there is none or the limit forbids it. */
  obtain(bytes: number, tag?: string): DevicePtr | undefined {
    if (this.#limitBytes !== undefined && this.#reservedBytes + bytes > this.#limitBytes) return undefined;
    this.device.makeCurrent();
    try {
      const ptr = this.device.api.allocate(bytes, tag);
      this.#reservedBytes += bytes;
      return ptr;
    } catch (error) {
      if (error instanceof OutOfMemoryError) return undefined;
      throw error;
    }
  }

  giveBack(ptr: DevicePtr, bytes: number): void {
    this.device.makeCurrent();
    this.device.api.free(ptr);
    this.#reservedBytes -= bytes;
  }

  /** Returns what all pools cache to the driver. */
  trimAll(): void {
    for (const pool of this.#pools) pool.trim();
  }

  forgetStream(stream: Stream): void {
    stream.synchronize();
    for (const pool of this.#pools) pool.dropStream(stream);
  }

  resetAll(): void {
    for (const pool of this.#pools) pool.reset();
  }
}
