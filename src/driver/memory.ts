import type { DevicePtr } from "./api.ts";
import type { Stream } from "./stream.ts";

/**
 * Device memory owned by one holder. `dispose()` gives it back to the pool, which may hand it out again at once to work
 * on the same stream (that work runs after what still uses it) and to other streams when that is known to be safe.
 */
export interface DeviceBuffer extends Disposable {
  readonly ptr: DevicePtr;
  /** The size that was asked for. */
  readonly bytes: number;
  /** Says that `stream`, not the one it was allocated for, uses this memory too. */
  recordStream(stream: Stream): void;
  readonly disposed: boolean;
  dispose(): void;
}

export interface MemoryStatistics {
  /** Bytes in live buffers, as asked for. */
  readonly requestedBytes: number;
  /** Bytes in live buffers, rounded to size classes. */
  readonly allocatedBytes: number;
  /** Bytes that the pool holds from the driver. */
  readonly reservedBytes: number;
  readonly peakAllocatedBytes: number;
  readonly peakReservedBytes: number;
  readonly liveBuffers: number;
  /** Calls to the driver's allocator, and how often it had to be retried after freeing what was cached. */
  readonly driverAllocations: number;
  readonly retries: number;
}

export interface MemoryPool {
  /** 256-byte aligned memory for work on `stream`. `tag` names the owner in out-of-memory reports. Throws OutOfMemoryError. */
  allocate(bytes: number, stream: Stream, tag?: string): DeviceBuffer;
  statistics(): MemoryStatistics;
  /** Returns cached, unused memory to the driver. */
  trim(): void;
  /** Resets peak counters. */
  resetPeaks(): void;
  /** The most bytes that the pool may reserve; undefined for no limit but the device's. */
  limitBytes: number | undefined;
  /** Gives back what is cached for a stream that goes away. */
  forgetStream(stream: Stream): void;
  /** Frees everything, live buffers included; using those afterwards is an error. */
  reset(): void;
}
