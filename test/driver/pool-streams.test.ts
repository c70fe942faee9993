import { afterEach, beforeEach, expect, test } from "vitest";
import { StateError } from "../../src/base/errors.ts";
import { Device } from "../../src/driver/device.ts";
import { FakeDriver } from "../support/fake-driver.ts";

const MiB = 1024 * 1024;

let driver: FakeDriver;
let device: Device;

beforeEach(() => {
  driver = new FakeDriver({ devices: 2 });
  device = new Device(driver, 0, "fake:0");
});

afterEach(() => {
  device.dispose();
  expect(driver.leaks).toEqual([]);
});

test("memory freed on one stream is not handed to another", () => {
  using other = device.createStream();
  const a = device.allocate(MiB);
  const { ptr } = a;
  a.dispose();
  using b = device.allocate(MiB, { stream: other });
  expect(b.ptr === ptr).toBe(false);
  using c = device.allocate(MiB);
  expect(c.ptr).toBe(ptr);
});

test("memory that another stream uses is kept until that stream has got there", () => {
  using other = device.createStream();
  const a = device.allocate(MiB);
  const { ptr } = a;
  driver.hold(other);
  other.fill8(ptr, 7, MiB);
  a.recordStream(other);
  a.dispose();
  // Still to be written by the other stream: the own stream must not get it yet.
  const before = device.allocate(MiB);
  expect(before.ptr === ptr).toBe(false);
  driver.release(other);
  using after = device.allocate(MiB);
  expect(after.ptr).toBe(ptr);
  before.dispose();
});

test("an allocation for a stream that lags does not wait for it", () => {
  driver.hold(device.stream);
  const a = device.allocate(MiB);
  device.stream.fill8(a.ptr, 1, MiB);
  const { ptr } = a;
  a.dispose();
  using b = device.allocate(MiB);
  expect(b.ptr).toBe(ptr);
  device.stream.fill8(b.ptr, 2, MiB);
  expect(device.stream.idle).toBe(false);
  driver.release(device.stream);
  expect(driver.memories[0]!.bytes(b.ptr, MiB).every((byte) => byte === 2)).toBe(true);
});

test("recording the own stream, or the same one twice, costs nothing", () => {
  using other = device.createStream();
  const a = device.allocate(MiB);
  a.recordStream(device.stream);
  a.recordStream(other);
  a.recordStream(other);
  a.dispose();
  // One event for the other stream, which the pool keeps for next time.
  expect(driver.streams.liveEvents).toBe(1);
  const b = device.allocate(MiB);
  b.recordStream(other);
  b.dispose();
  expect(driver.streams.liveEvents).toBe(1);
  expect(() => b.recordStream(other)).toThrow(StateError);
});

test("trim waits for streams that still use what was freed", () => {
  using other = device.createStream();
  const a = device.allocate(4 * MiB);
  driver.hold(other);
  other.fill8(a.ptr, 7, 4 * MiB);
  a.recordStream(other);
  a.dispose();
  device.memory.trim();
  expect(other.idle).toBe(true);
  expect(device.memory.statistics()).toMatchObject({ reservedBytes: 0, allocatedBytes: 0 });
});

test("out of memory on one stream takes what another has cached, after its work is done", () => {
  using other = device.createStream();
  const a = device.allocate(3000 * MiB, { stream: other });
  driver.hold(other);
  other.fill8(a.ptr, 7, MiB);
  a.dispose();
  using b = device.allocate(2000 * MiB);
  expect(b.disposed).toBe(false);
  expect(other.idle).toBe(true);
});

test("a stream that goes away leaves nothing cached, and its live buffers to the main stream", () => {
  const other = device.createStream();
  device.allocate(4 * MiB, { stream: other }).dispose();
  const kept = device.allocate(1000, { stream: other });
  const shared = device.allocate(MiB);
  shared.recordStream(other);
  driver.hold(other);
  other.fill8(kept.ptr, 1, 1000);
  other.dispose();
  expect(driver.memories[0]!.bytes(kept.ptr, 1)[0]).toBe(1);
  shared.dispose(); // must not record an event on the stream that is gone
  expect(device.memory.statistics().reservedBytes).toBe(4 * MiB);
  const { ptr } = kept;
  kept.dispose();
  using next = device.allocate(1000);
  expect(next.ptr).toBe(ptr);
});

test("a buffer used by a stream of another device waits for that one", () => {
  using peer = new Device(driver, 1, "fake:1");
  const a = device.allocate(MiB);
  const b = peer.allocate(MiB);
  driver.hold(peer.stream);
  peer.stream.copyFromPeer(b.ptr, a.ptr, device, MiB);
  a.recordStream(peer.stream);
  const { ptr } = a;
  a.dispose();
  const before = device.allocate(MiB);
  expect(before.ptr === ptr).toBe(false);
  driver.release(peer.stream);
  const after = device.allocate(MiB);
  expect(after.ptr).toBe(ptr);
  for (const buffer of [before, after, b]) buffer.dispose();
});

test("a peer that was disposed is not waited for", () => {
  const peer = new Device(driver, 1, "fake:1");
  const a = device.allocate(MiB);
  driver.hold(peer.stream);
  peer.stream.fill8(peer.allocate(16).ptr, 1, 16);
  a.recordStream(peer.stream);
  const { ptr } = a;
  a.dispose();
  peer.dispose();
  using b = device.allocate(MiB);
  expect(b.ptr).toBe(ptr);
});

test("pools of one device share its limit, and give their cache to each other", () => {
  using pool = device.createMemoryPool("second");
  device.memory.limitBytes = 64 * MiB;
  device.allocate(40 * MiB).dispose();
  using a = pool.allocate(40 * MiB, device.stream);
  expect(device.memory.statistics().reservedBytes).toBe(0);
  expect(() => device.allocate(30 * MiB)).toThrow(/all pools of the device hold 40\.00 MiB of their limit/);
  expect(pool.limitBytes).toBe(64 * MiB);
  expect(a.disposed).toBe(false);
});
