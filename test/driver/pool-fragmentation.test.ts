import { afterEach, beforeEach, expect, test } from "vitest";
import type { Device } from "../../src/driver/device.ts";
import type { DeviceBuffer } from "../../src/driver/memory.ts";
import { type FakeDriver, fakeDevice } from "../support/fake-driver.ts";
import { random } from "../support/numerics.ts";

const KiB = 1024;
const MiB = 1024 * KiB;

let driver: FakeDriver;
let device: Device;

beforeEach(() => {
  ({ driver, device } = fakeDevice({ totalBytes: 64 * 1024 * MiB }));
});

afterEach(() => {
  device.dispose();
  expect(driver.leaks).toEqual([]);
});

/** Sizes as inference has them: many small tensors, activations of some MiB, a few large ones. */
function size(next: () => number): number {
  const kind = next();
  if (kind < 0.6) return Math.floor(next() * 64 * KiB);
  if (kind < 0.95) return Math.floor(next() * 8 * MiB);
  return Math.floor(next() * 64 * MiB);
}

test.each([1, 2, 3, 4, 5])("random sizes and lifetimes stay within 1.5 of the peak and merge back, seed %i", (seed) => {
  const next = random(seed);
  const live: DeviceBuffer[] = [];
  for (let i = 0; i < 20_000; i++) {
    if (live.length > 0 && (live.length > 200 || next() < 0.45)) {
      const [buffer] = live.splice(Math.floor(next() * live.length), 1);
      buffer!.dispose();
    } else {
      live.push(device.allocate(size(next)));
    }
  }
  const { peakReservedBytes, peakAllocatedBytes } = device.memory.statistics();
  // Best fit with merging leaves holes between live neighbours; half as much again is the bound that we promise.
  expect(peakReservedBytes / peakAllocatedBytes).toBeLessThan(1.5);
  for (const buffer of live) buffer.dispose();
  expect(device.memory.statistics().allocatedBytes).toBe(0);
  // Only whole segments can be trimmed: that all of it goes shows that all blocks have merged.
  expect(device.memory.statistics().reservedBytes).toBeGreaterThan(0);
  device.memory.trim();
  expect(device.memory.statistics().reservedBytes).toBe(0);
  expect(driver.memories[0]!.liveAllocations).toBe(0);
});

test("live buffers never overlap, whatever was split and merged before", () => {
  const next = random(7);
  const live = new Map<bigint, DeviceBuffer>();
  for (let i = 0; i < 5000; i++) {
    const buffer = device.allocate(1 + size(next));
    live.set(buffer.ptr, buffer);
    if (live.size > 60) {
      const victim = [...live.keys()][Math.floor(next() * live.size)]!;
      live.get(victim)!.dispose();
      live.delete(victim);
    }
    if (i % 100 === 0) {
      const sorted = [...live.entries()].toSorted((a, b) => (a[0] < b[0] ? -1 : 1));
      for (let k = 1; k < sorted.length; k++) {
        const [ptr, before] = sorted[k - 1]!;
        expect(ptr + BigInt(before.bytes) <= sorted[k]![0]).toBe(true);
      }
    }
  }
  for (const buffer of live.values()) buffer.dispose();
});

test.each(["012", "021", "102", "120", "201", "210"])("neighbours freed in the order %s become one block", (order) => {
  // Three of 6 MiB fill most of one shared segment of 20 MiB, which only a merged block can serve again twice as nearly 10 MiB.
  const buffers = [6, 6, 6].map((mib) => device.allocate(mib * MiB));
  expect(device.memory.statistics().driverAllocations).toBe(1);
  for (const i of order) buffers[Number(i)]!.dispose();
  using first = device.allocate(10 * MiB - 64 * KiB);
  using second = device.allocate(10 * MiB - 64 * KiB);
  expect(first.ptr === second.ptr).toBe(false);
  expect(device.memory.statistics().driverAllocations).toBe(1);
});

test("a repeated pattern of sizes reserves nothing more after the first round", () => {
  const sizes = [700 * KiB, 5 * MiB, 11 * MiB, 300, 2 * MiB, 40 * MiB];
  const round = () => {
    const buffers = sizes.map((bytes) => device.allocate(bytes));
    for (const buffer of buffers) buffer.dispose();
  };
  round();
  const { reservedBytes } = device.memory.statistics();
  for (let i = 0; i < 100; i++) round();
  expect(device.memory.statistics()).toMatchObject({ reservedBytes, peakReservedBytes: reservedBytes });
});
