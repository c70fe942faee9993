import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ArgumentError, OutOfMemoryError, StateError } from "../../src/base/errors.ts";
import { nullPtr } from "../../src/driver/api.ts";
import type { Device } from "../../src/driver/device.ts";
import { type FakeDriver, fakeDevice } from "../support/fake-driver.ts";
import { random } from "../support/numerics.ts";

const KiB = 1024;
const MiB = 1024 * KiB;

let driver: FakeDriver;
let device: Device;

beforeEach(() => {
  ({ driver, device } = fakeDevice());
});

afterEach(() => {
  device.dispose();
  expect(driver.leaks).toEqual([]);
});

describe("allocation", () => {
  test("gives aligned memory that does not overlap and holds what is written", () => {
    const buffers = [1, 255, 256, 257, 5000, MiB, 3 * MiB, 12 * MiB].map((bytes) => device.allocate(bytes));
    const sorted = buffers.toSorted((a, b) => (a.ptr < b.ptr ? -1 : 1));
    for (const [i, buffer] of sorted.entries()) {
      expect(buffer.ptr % 256n).toBe(0n);
      const next = sorted[i + 1];
      if (next) expect(buffer.ptr + BigInt(buffer.bytes) <= next.ptr).toBe(true);
      device.stream.fill8(buffer.ptr, i + 1, buffer.bytes);
    }
    for (const [i, buffer] of sorted.entries()) {
      expect(driver.memories[0]!.bytes(buffer.ptr, buffer.bytes).every((byte) => byte === i + 1)).toBe(true);
    }
    for (const buffer of buffers) buffer.dispose();
  });

  test("reuses a freed buffer of the same stream at once, for sizes of one class", () => {
    for (const [first, second] of [
      [1000, 600],
      [3 * MiB, 3 * MiB - 1000],
    ] as const) {
      const a = device.allocate(first);
      const { ptr } = a;
      a.dispose();
      using b = device.allocate(second);
      expect(b.ptr).toBe(ptr);
    }
  });

  test("zero bytes take no memory", () => {
    const buffer = device.allocate(0);
    expect(buffer.ptr).toBe(nullPtr);
    buffer.recordStream(device.stream);
    expect(device.memory.statistics()).toMatchObject({ reservedBytes: 0, liveBuffers: 1 });
    buffer.dispose();
    expect(device.memory.statistics().liveBuffers).toBe(0);
  });

  test("refuses sizes that are not whole numbers of bytes", () => {
    for (const bytes of [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => device.allocate(bytes, { tag: "cache" })).toThrow(ArgumentError);
    }
  });

  test("disposing twice is harmless, using it afterwards is an error that names it", () => {
    const buffer = device.allocate(100, { tag: "logits" });
    buffer.dispose();
    using other = device.allocate(100);
    buffer.dispose();
    expect(other.disposed).toBe(false);
    expect(buffer.disposed).toBe(true);
    expect(() => buffer.ptr).toThrow(/"logits" \(100 bytes\).*dispose/);
    expect(device.memory.statistics().liveBuffers).toBe(1);
  });

  test("asks the driver seldom", () => {
    const buffers = Array.from({ length: 1000 }, () => device.allocate(1000));
    expect(driver.memories[0]!.allocations).toBe(1);
    for (const buffer of buffers) buffer.dispose();
  });
});

describe("statistics", () => {
  test("count bytes asked for, bytes in blocks and bytes from the driver, with peaks", () => {
    const a = device.allocate(1000);
    const b = device.allocate(MiB + 1);
    expect(device.memory.statistics()).toEqual({
      requestedBytes: MiB + 1001,
      allocatedBytes: 1024 + MiB + 64 * KiB,
      reservedBytes: 22 * MiB,
      peakAllocatedBytes: 1024 + MiB + 64 * KiB,
      peakReservedBytes: 22 * MiB,
      liveBuffers: 2,
      driverAllocations: 2,
      retries: 0,
    });
    b.dispose();
    device.memory.trim();
    expect(device.memory.statistics()).toMatchObject({ allocatedBytes: 1024, reservedBytes: 2 * MiB });
    expect(device.memory.statistics().peakReservedBytes).toBe(22 * MiB);
    device.memory.resetPeaks();
    expect(device.memory.statistics()).toMatchObject({ peakAllocatedBytes: 1024, peakReservedBytes: 2 * MiB });
    a.dispose();
  });

  test("return to zero after 10,000 allocations, and nothing is left with the driver", () => {
    const next = random(1);
    for (let i = 0; i < 10_000; i++) device.allocate(Math.floor(next() * 4 * MiB)).dispose();
    device.memory.trim();
    expect(device.memory.statistics()).toMatchObject({
      requestedBytes: 0,
      allocatedBytes: 0,
      reservedBytes: 0,
      liveBuffers: 0,
    });
    expect(driver.memories[0]!.usedBytes).toBe(0);
  });
});

describe("limits", () => {
  test("frees what is cached and tries again before it gives up", () => {
    device.memory.limitBytes = 64 * MiB;
    device.allocate(30 * MiB).dispose();
    device.allocate(20 * MiB).dispose();
    using large = device.allocate(60 * MiB);
    expect(large.bytes).toBe(60 * MiB);
    expect(device.memory.statistics()).toMatchObject({ retries: 1, reservedBytes: 60 * MiB });
  });

  test("does the same when the driver itself has no more", () => {
    const small = fakeDevice({ totalBytes: 64 * MiB });
    small.device.allocate(40 * MiB).dispose();
    const large = small.device.allocate(50 * MiB);
    expect(small.device.memory.statistics().retries).toBe(1);
    large.dispose();
    small.device.dispose();
  });

  test("takes a segment of just the size when a shared one does not fit", () => {
    device.memory.limitBytes = 4 * MiB;
    using buffer = device.allocate(3 * MiB);
    expect(device.memory.statistics().reservedBytes).toBe(4 * MiB);
    expect(buffer.disposed).toBe(false);
  });

  test("an error says what was asked, what is free, what is held, and by whom", () => {
    device.memory.limitBytes = 64 * MiB;
    const held = [
      device.allocate(20 * MiB, { tag: "weights" }),
      device.allocate(20 * MiB, { tag: "weights" }),
      device.allocate(12 * MiB, { tag: "kv cache" }),
      device.allocate(100, { tag: "logits" }),
    ];
    let error: unknown;
    try {
      device.allocate(32 * MiB, { tag: "activations" });
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(OutOfMemoryError);
    const { message, wantedBytes, freeBytes } = error as OutOfMemoryError;
    expect(wantedBytes).toBe(32 * MiB);
    expect(freeBytes).toBe(10 * MiB);
    expect(message).toMatch(/^fake:0: 32\.00 MiB for "activations" do not fit/);
    expect(message).toMatch(/54\.00 MiB of their limit of 64\.00 MiB/);
    expect(message).toMatch(/"weights" 40\.00 MiB in 2 buffers, "kv cache" 12\.00 MiB in 1 buffer, "logits" 512 bytes/);
    expect(message).toMatch(/LLCUDA_MEMORY_LIMIT/);
    for (const buffer of held) buffer.dispose();
  });

  test("without a limit the error tells the device's free memory", () => {
    using held = device.allocate(3 * 1024 * MiB);
    expect(() => device.allocate(2 * 1024 * MiB)).toThrow(/the device has 1\.00 GiB free of 4\.00 GiB/);
    expect(held.disposed).toBe(false);
  });

  test("an unusable limit is refused", () => {
    expect(() => {
      device.memory.limitBytes = Number.NaN;
    }).toThrow(/memory limit.*NaN/);
  });
});

describe("reset and dispose", () => {
  test("reset frees live buffers too, which say so afterwards", () => {
    const buffer = device.allocate(MiB);
    device.memory.reset();
    expect(driver.memories[0]!.usedBytes).toBe(0);
    expect(() => buffer.ptr).toThrow(StateError);
    buffer.dispose();
    expect(device.memory.statistics()).toMatchObject({ allocatedBytes: 0, liveBuffers: 0, reservedBytes: 0 });
    device.allocate(MiB).dispose();
  });

  test("buffers that outlive their device can still be disposed", () => {
    const other = fakeDevice();
    const buffer = other.device.allocate(MiB);
    other.device.dispose();
    buffer.dispose();
    expect(other.driver.leaks).toEqual([]);
    expect(() => other.device.allocate(1)).toThrow(/after dispose/);
  });
});
