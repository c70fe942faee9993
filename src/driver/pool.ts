import type { Device } from "./device.ts";
import type { DeviceBuffer, MemoryPool, MemoryStatistics } from "./memory.ts";

/** Placeholder signature: the caching allocator. */
export class CachingPool implements MemoryPool {
  limitBytes: number | undefined;
  constructor(readonly_device: Device) {
    void readonly_device;
  }
  allocate(): DeviceBuffer {
    throw new Error("pool");
  }
  statistics(): MemoryStatistics {
    throw new Error("pool");
  }
  trim(): void {}
  resetPeaks(): void {}
  forgetStream(): void {}
  reset(): void {}
}
