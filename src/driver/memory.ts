import type { DevicePtr } from "./api.ts";
import type { Stream } from "./stream.ts";

/**
 * Device memory owned by one holder. `dispose()` gives it back to the pool, which may hand it out again at once to work
 * on the same stream (that work runs after what still uses it) and to other streams when that is known to be safe.
 * What nobody disposes is given back when the garbage collector finds it; LLCUDA_DEBUG=1 reports each such buffer.
 */
export interface DeviceBuffer extends Disposable {
  /** 256-byte aligned; the null address for a buffer of zero bytes. Throws StateError after `dispose()`. */
  readonly ptr: DevicePtr;
  /** The size that was asked for. */
  readonly bytes: number;
  /** Says that `stream`, not the one it was allocated for, uses this memory too. */
  recordStream(stream: Stream): void;
  readonly disposed: boolean;
  /** A second call does nothing. */
  dispose(): void;
}

export interface MemoryStatistics {
  /** Bytes in live buffers, as asked for. */
  readonly requestedBytes: number;
  /** Bytes in live buffers, rounded to size classes; with those that wait for another stream to finish with them. */
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

export interface MemoryPool extends Disposable {
  /** Appears in error messages. */
  readonly name: string;
  /**
   * 256-byte aligned memory for work on `stream`. `tag` names the owner in out-of-memory reports.
   * Throws OutOfMemoryError; StateError for the device's own pool while a stream is being captured.
   */
  allocate(bytes: number, stream: Stream, tag?: string): DeviceBuffer;
  statistics(): MemoryStatistics;
  /** Returns cached, unused memory to the driver; nothing when a captured graph may still use it. */
  trim(): void;
  /** Resets peak counters. */
  resetPeaks(): void;
  /** The most bytes that all pools of the device together may reserve; undefined for no limit but the device's. */
  limitBytes: number | undefined;
  /** Waits for `stream`, which is about to go away, and gives back what every pool of the device caches for it. */
  forgetStream(stream: Stream): void;
  /** Frees everything, live buffers included; using those afterwards is an error. */
  reset(): void;
  /** Nothing can be allocated any more; live buffers stay valid and their memory goes to the driver as they go. */
  dispose(): void;
}
