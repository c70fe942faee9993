import { expect, test } from "vitest";
import { fakeDevice } from "../support/fake-driver.ts";
import { collector } from "../support/gc.ts";

const MiB = 1024 * 1024;

test.skipIf(!collector)(
  "buffers that nobody holds are freed by the garbage collector, and reported on request",
  async () => {
    const { device, driver } = fakeDevice();
    const warnings: string[] = [];
    const listen = (warning: Error) => warnings.push(warning.message);
    process.on("warning", listen);
    process.env.LLCUDA_DEBUG = "1";
    try {
      for (let i = 0; i < 4; i++) device.allocate(MiB, { tag: "forgotten" });
      expect(device.memory.statistics().reservedBytes).toBe(4 * MiB);
      // Finalizers run between turns, in their own time.
      for (let i = 0; i < 200 && device.memory.statistics().liveBuffers > 0; i++) {
        collector?.();
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      expect(device.memory.statistics()).toMatchObject({ liveBuffers: 0, allocatedBytes: 0 });
      expect(warnings.some((text) => /1\.00 MiB for "forgotten" were never disposed/.test(text))).toBe(true);
    } finally {
      delete process.env.LLCUDA_DEBUG;
      process.off("warning", listen);
    }
    device.dispose();
    expect(driver.leaks).toEqual([]);
  },
);
