import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { CudaError, ModuleError, StateError } from "../../src/base/errors.ts";
import { Device } from "../../src/driver/device.ts";
import { FakeDriver } from "../support/fake-driver.ts";

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

const ptx = new TextEncoder().encode(".version 6.0\n.visible .entry add_one(.param .u64 x)\n{ ret; }\n");

describe("streams and events", () => {
  test("work on one stream runs in order, and waits for an event of another", () => {
    using other = device.createStream();
    using event = device.createEvent();
    using buffer = device.allocate(4);
    driver.hold(device.stream);
    device.stream.fill8(buffer.ptr, 1, 4);
    device.stream.record(event);
    other.wait(event);
    other.fill8(buffer.ptr, 2, 4);
    expect(event.done).toBe(false);
    expect(other.idle).toBe(false);
    event.synchronize();
    expect(event.done).toBe(true);
    expect([...driver.memories[0]!.bytes(buffer.ptr, 4)]).toEqual([2, 2, 2, 2]);
  });

  test("timed events measure, others refuse", () => {
    using start = device.createEvent({ timing: true });
    using end = device.createEvent({ timing: true });
    using plain = device.createEvent();
    device.stream.record(start);
    device.stream.record(end);
    device.stream.record(plain);
    expect(end.elapsedMs(start)).toBeGreaterThan(0);
    expect(() => plain.elapsedMs(start)).toThrow(CudaError);
  });

  test("pinned memory is read when the copy runs", () => {
    using pinned = device.allocatePinned(4);
    using buffer = device.allocate(4);
    const bytes = new Uint8Array(pinned.buffer);
    driver.hold(device.stream);
    bytes.fill(1);
    device.stream.copyToDevice(buffer.ptr, pinned, 0, 4);
    bytes.fill(2);
    device.stream.synchronize();
    expect(driver.memories[0]!.bytes(buffer.ptr, 4)[0]).toBe(2);
    pinned.dispose();
    expect(() => pinned.buffer).toThrow(StateError);
  });
});

describe("graphs", () => {
  test("captured work runs on launch only, as often as launched", () => {
    using buffer = device.allocate(4);
    device.stream.fill8(buffer.ptr, 1, 4);
    using graph = device.stream.capture(() => device.stream.fill8(buffer.ptr, 9, 4));
    expect(graph.nodeCount).toBe(1);
    expect(driver.memories[0]!.bytes(buffer.ptr, 1)[0]).toBe(1);
    using exec = graph.instantiate();
    exec.launch(device.stream);
    expect(driver.memories[0]!.bytes(buffer.ptr, 1)[0]).toBe(9);
  });

  test("an executable graph takes over another of the same topology, and refuses one of another", () => {
    using buffer = device.allocate(4);
    const fill = (value: number, times: number) =>
      device.stream.capture(() => {
        for (let i = 0; i < times; i++) device.stream.fill8(buffer.ptr, value, 4);
      });
    using first = fill(1, 1);
    using second = fill(2, 1);
    using longer = fill(3, 2);
    using exec = first.instantiate();
    expect(exec.update(second)).toBe(true);
    exec.launch(device.stream);
    expect(driver.memories[0]!.bytes(buffer.ptr, 1)[0]).toBe(2);
    expect(exec.update(longer)).toBe(false);
  });

  test("an error inside a capture ends it, and shows", () => {
    expect(() =>
      device.stream.capture(() => {
        throw new Error("while capturing");
      }),
    ).toThrow("while capturing");
    expect(device.capturing).toBe(false);
    device.stream.synchronize();
  });

  test("waiting for the device spoils a capture, and capturing twice is refused", () => {
    expect(() => device.stream.capture(() => device.synchronize())).toThrow(/CAPTURE_UNSUPPORTED/);
    expect(() => device.stream.capture(() => void device.stream.capture(() => {}))).toThrow(StateError);
    device.synchronize();
  });

  test("a second stream is drawn in by events, and must be waited for", () => {
    using other = device.createStream();
    using fork = device.createEvent();
    using join = device.createEvent();
    using buffer = device.allocate(8);
    const submit = (joined: boolean) =>
      device.stream.capture(() => {
        device.stream.record(fork);
        other.wait(fork);
        other.fill8(buffer.ptr, 1, 8);
        other.record(join);
        if (joined) device.stream.wait(join);
      });
    using graph = submit(true);
    expect(graph.nodeCount).toBe(1);
    expect(() => submit(false)).toThrow(/UNJOINED/);
  });
});

describe("modules", () => {
  test("launch with packed arguments, which may change as soon as the launch returns", () => {
    using module = device.loadModule(ptx, "test");
    const kernel = module.getFunction("add_one");
    using buffer = device.allocate(16);
    driver.kernels.set("add_one", ({ args, memory }) => {
      const bytes = memory(args.getBigUint64(0, true) as never, 16);
      for (let i = 0; i < 16; i++) bytes[i]! += 1;
    });
    device.stream.fill8(buffer.ptr, 41, 16);
    driver.hold(device.stream);
    const args = driver.scratch(64);
    const view = new DataView(args.buffer);
    view.setBigUint64(0, buffer.ptr, true);
    kernel.launch(device.stream, { grid: [1, 1, 1], block: [16, 1, 1], sharedBytes: 0 }, args, 8);
    view.setBigUint64(0, 0n, true);
    driver.release(device.stream);
    expect(driver.memories[0]!.bytes(buffer.ptr, 16)[15]).toBe(42);
    expect(driver.launches[0]?.symbol).toBe("add_one");
  });

  test("more dynamic shared memory than 48 KB is asked for before the launch", () => {
    using module = device.loadModule(ptx, "test");
    const kernel = module.getFunction("add_one");
    const shape = { grid: [1, 1, 1], block: [32, 1, 1], sharedBytes: 100 * 1024 } as const;
    kernel.launch(device.stream, shape, driver.scratch(8), 8);
    expect(driver.launches[0]?.shape.sharedBytes).toBe(100 * 1024);
    expect(kernel.activeBlocks(128, 100 * 1024)).toBe(1);
  });

  test("text without an entry, a symbol that is missing, and a module that is gone are errors", () => {
    expect(() => device.loadModule(new TextEncoder().encode("nothing"), "broken")).toThrow(ModuleError);
    const module = device.loadModule(ptx, "test");
    expect(() => module.getFunction("sub_one")).toThrow(/sub_one/);
    const kernel = module.getFunction("add_one");
    module.dispose();
    const shape = { grid: [1, 1, 1], block: [1, 1, 1], sharedBytes: 0 } as const;
    expect(() => kernel.launch(device.stream, shape, driver.scratch(8), 8)).toThrow(CudaError);
  });
});

describe("lifetimes", () => {
  test("each device's calls act in its own context", () => {
    using peer = new Device(driver, 1, "fake:1");
    using a = device.allocate(1000);
    using b = peer.allocate(1000);
    using c = device.allocate(3 * 1024 * 1024);
    expect(driver.memories[0]!.owns(a.ptr)).toBe(true);
    expect(driver.memories[1]!.owns(b.ptr)).toBe(true);
    expect(driver.memories[0]!.owns(c.ptr)).toBe(true);
    expect(peer.enablePeerAccess(device)).toBe(true);
    peer.stream.copyFromPeer(b.ptr, a.ptr, device, 1000);
  });

  test("dispose frees everything once, and use afterwards says so", () => {
    const other = new Device(driver, 1, "fake:1");
    other.allocate(1000);
    const stream = other.createStream();
    stream.dispose();
    stream.dispose();
    other.dispose();
    other.dispose();
    expect(driver.memories[1]!.usedBytes).toBe(0);
    expect(() => other.createStream()).toThrow(/fake:1: used after dispose\(\); open it again/);
  });
});
