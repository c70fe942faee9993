import { afterEach, beforeEach, expect, test } from "vitest";
import { StateError } from "../../src/base/errors.ts";
import type { Device } from "../../src/driver/device.ts";
import type { DeviceBuffer } from "../../src/driver/memory.ts";
import { type FakeDriver, fakeDevice } from "../support/fake-driver.ts";

const MiB = 1024 * 1024;

let driver: FakeDriver;
let device: Device;

beforeEach(() => {
  ({ driver, device } = fakeDevice());
});

afterEach(() => {
  device.dispose();
  expect(driver.leaks).toEqual([]);
});

/** Captures a step that needs scratch memory and returns a result. */
function captureStep(pool: ReturnType<Device["createMemoryPool"]>, value: number) {
  let result: DeviceBuffer | undefined;
  let scratchPtr = 0n;
  const graph = device.useMemory(pool, () =>
    device.stream.capture(() => {
      const scratch = device.allocate(3 * MiB);
      scratchPtr = scratch.ptr;
      device.stream.fill8(scratch.ptr, value, 100);
      result = device.allocate(1000);
      device.stream.copyOnDevice(result.ptr, scratch.ptr, 100);
      scratch.dispose();
    }),
  );
  return { graph, result: result!, scratchPtr };
}

test("a captured graph's memory, freed or not, goes to nobody else until its pool is disposed", () => {
  const pool = device.createMemoryPool();
  const { graph, result, scratchPtr } = captureStep(pool, 5);
  const exec = graph.instantiate();
  const eager = Array.from({ length: 50 }, () => device.allocate(3 * MiB));
  expect(eager.some((buffer) => buffer.ptr === scratchPtr)).toBe(false);
  pool.trim();
  expect(pool.statistics().reservedBytes).toBeGreaterThan(0);

  device.stream.fill8(result.ptr, 0, 1000);
  exec.launch(device.stream);
  expect(driver.memories[0]!.bytes(result.ptr, 100).every((byte) => byte === 5)).toBe(true);

  for (const buffer of eager) buffer.dispose();
  exec.dispose();
  graph.dispose();
  result.dispose();
  expect(pool.statistics().reservedBytes).toBeGreaterThan(0);
  pool.dispose();
  expect(pool.statistics().reservedBytes).toBe(0);
});

test("buffers that outlive their pool stay valid, and their memory goes with the last of a segment", () => {
  const pool = device.createMemoryPool();
  const { graph, result } = captureStep(pool, 5);
  graph.dispose();
  pool.dispose();
  device.stream.fill8(result.ptr, 9, 1000);
  expect(pool.statistics()).toMatchObject({ liveBuffers: 1, reservedBytes: 2 * MiB });
  expect(() => pool.allocate(1, device.stream)).toThrow(/pool "graph": allocate\(\) after dispose/);
  result.dispose();
  expect(driver.memories[0]!.usedBytes).toBe(0);
});

test("the device's own pool refuses allocations during a capture and says what to do", () => {
  expect(() => device.stream.capture(() => void device.allocate(MiB, { tag: "scores" }))).toThrow(
    /"scores" asked for 1\.00 MiB during a capture.*createMemoryPool/,
  );
  expect(device.stream.capturing).toBe(false);
  device.allocate(MiB).dispose();
});

test("freeing, and freeing what another stream used, is legal during a capture", () => {
  using other = device.createStream();
  const before = device.allocate(MiB);
  const shared = device.allocate(MiB);
  shared.recordStream(other);
  const pool = device.createMemoryPool();
  using graph = device.useMemory(pool, () =>
    device.stream.capture(() => {
      before.dispose();
      shared.dispose();
      const inside = device.allocate(MiB);
      inside.recordStream(other);
      inside.dispose();
      device.memory.trim();
      using again = device.allocate(MiB);
      device.stream.fill8(again.ptr, 1, MiB);
    }),
  );
  expect(graph.nodeCount).toBe(1);
  // What was put off during the capture happens at the next allocation.
  using a = device.allocate(MiB);
  using b = device.allocate(MiB);
  expect(device.memory.statistics()).toMatchObject({ liveBuffers: 2, reservedBytes: 2 * MiB });
  expect(a.ptr === b.ptr).toBe(false);
  pool.dispose();
});

test("out of memory during a capture is an error at once, without calls that would end the capture", () => {
  using cached = device.createMemoryPool();
  device.allocate(3000 * MiB).dispose();
  let error: unknown;
  using graph = device.useMemory(cached, () =>
    device.stream.capture(() => {
      try {
        device.allocate(2000 * MiB);
      } catch (caught) {
        error = caught;
      }
    }),
  );
  expect(String(error)).toMatch(/OutOfMemoryError: fake:0: 1\.95 GiB/);
  expect(graph.nodeCount).toBe(0);
});

test("useMemory nests, ends with an error, and refuses what is asynchronous", () => {
  const outer = device.createMemoryPool("outer");
  const inner = device.createMemoryPool("inner");
  const main = device.memory;
  device.useMemory(outer, () => {
    expect(device.memory).toBe(outer);
    expect(device.useMemory(inner, () => device.memory)).toBe(inner);
    expect(device.memory).toBe(outer);
  });
  const fail = () =>
    device.useMemory(outer, () => {
      throw new Error("inside");
    });
  expect(fail).toThrow("inside");
  expect(device.memory).toBe(main);
  expect(() => device.useMemory(outer, async () => 1)).toThrow(StateError);
  outer.dispose();
  inner.dispose();
});

test("two graphs of one pool share its scratch memory", () => {
  const pool = device.createMemoryPool();
  const first = captureStep(pool, 1);
  const { reservedBytes } = pool.statistics();
  const second = captureStep(pool, 2);
  expect(pool.statistics().reservedBytes).toBe(reservedBytes);
  expect(second.scratchPtr).toBe(first.scratchPtr);
  expect(second.result.ptr === first.result.ptr).toBe(false);
  for (const { graph, result } of [first, second]) {
    graph.dispose();
    result.dispose();
  }
  pool.dispose();
});
