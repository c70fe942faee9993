import { afterAll, describe, expect, test } from "vitest";
import { SimProvider } from "../../../src/sim/provider.ts";
import { checkedDevice, kernel, launch, ptxLine, verdict } from "./support.ts";

const device = checkedDevice();
afterAll(() => device.dispose());

const load = ["ld.global.u32 %r0, [%a];"];
const store = ["st.global.u32 [%a], %t;"];
const increment = ["ld.global.u32 %r0, [%a]; add.u32 %r0, %r0, 1; st.global.u32 [%a], %r0;"];
const at = (instruction: string) => `PTX line ${ptxLine(1)} (bug.cu:1, ${instruction})`;

const check = (source: readonly string[], pointer: bigint, threads = 32) =>
  verdict(() => launch(kernel(device, source), pointer, threads));

describe("where buffers end", () => {
  test("a pool's neighbouring buffer is out of bounds", () => {
    using before = device.allocate(100, { tag: "keys" });
    using behind = device.allocate(100, { tag: "values" });
    for (const { ptr } of [before, behind]) device.stream.fill8(ptr, 0, 100);
    expect(check(load, before.ptr, 25)).toBe("clean");
    const found = check(load, before.ptr, 26);
    expect(found).toMatch(/^CUDA_ERROR_ILLEGAL_ADDRESS: out of bounds: bug block \(0,0,0\) thread \(25,0,0\), /);
    expect(found).toContain(at("ld.global.u32"));
    expect(found).toMatch(/is just past the end of the allocation of 100 bytes at 0x[0-9a-f]+ \(keys\)$/);
    expect(check(store, behind.ptr - 4n, 1)).toMatch(
      /is 4 bytes before the allocation of 100 bytes at 0x[0-9a-f]+ \(values\)$/,
    );
  });

  test("an access that begins inside and ends outside names the first byte outside", () => {
    using buffer = device.allocate(6);
    device.stream.fill8(buffer.ptr, 0, 6);
    expect(check(["ld.global.u16 %r0, [%a];"], buffer.ptr, 2)).toBe("clean");
    const found = check(["ld.global.v2.u32 {%r0, %r1}, [%out];"], buffer.ptr, 1);
    expect(found).toMatch(/reads 8 bytes at 0x[0-9a-f]+00; 0x[0-9a-f]+06 is just past the end of/);
  });

  test("atomics and generic addresses are seen", () => {
    using buffer = device.allocate(64);
    device.stream.fill8(buffer.ptr, 0, 64);
    expect(check(["atom.global.add.u32 %r0, [%out + 64], 1;"], buffer.ptr, 1)).toContain("updates 4 bytes at");
    expect(check(["red.global.add.u32 [%out + 64], 1;"], buffer.ptr, 1)).toContain("updates 4 bytes at");
    expect(check(["st.u32 [%out + 64], 1;"], buffer.ptr, 1)).toContain("writes 4 bytes at");
  });

  test("an asynchronous copy reads its source size", () => {
    using buffer = device.allocate(24);
    device.stream.fill8(buffer.ptr, 0, 24);
    const copy = (bytes: number) => [
      "mov.u32 %r1, tile;",
      `mov.u32 %r2, ${bytes}; cp.async.cg.shared.global [%r1], [%out + 16], 16, %r2;`,
    ];
    const run = (bytes: number) =>
      verdict(() => launch(kernel(device, copy(bytes), ".shared .align 16 .b8 tile[16];"), buffer, 1));
    expect(run(8)).toBe("clean");
    expect(run(12)).toContain("reads 12 bytes at");
  });

  test("pinned memory has an end, and none once it is freed", () => {
    const pinned = device.allocatePinned(6);
    const { devicePtr } = pinned;
    expect(check(["ld.global.u8 %r0, [%out + 5];"], devicePtr, 1)).toBe("clean");
    const behind = check(["ld.global.u8 %r0, [%out + 6];"], devicePtr, 1);
    expect(behind).toMatch(/is just past the end of the pinned host memory of 6 bytes at 0x4[0-9a-f]+$/);
    pinned.dispose();
    expect(check(["ld.global.u8 %r0, [%out];"], devicePtr, 1)).toMatch(/is in no memory of this device$/);
  });

  test("shared memory ends where the kernel says, not at a multiple of 16", () => {
    const run = (offset: number, dynamicBytes = 0) =>
      verdict(() =>
        launch(
          kernel(device, [`mov.u32 %r1, row; st.shared.u32 [%r1 + ${offset}], 1;`], ".shared .align 4 .b8 row[20];"),
          0n,
          1,
          dynamicBytes,
        ),
      );
    expect(run(16)).toBe("clean");
    expect(run(20)).toMatch(
      /out of bounds: .* writes 4 bytes at shared address 20, just past the end of row \(20 bytes\)$/,
    );
    expect(run(20, 8)).toMatch(/just past the end of row/);
  });

  test("a variable in shared memory is not its neighbour, nor dynamic shared memory", () => {
    const declarations = ".shared .align 4 .b8 first[16]; .shared .align 4 .b8 second[16];";
    const dynamic = ".extern .shared .align 16 .b8 rest[];";
    const run = (address: string) =>
      verdict(() =>
        launch(
          kernel(
            device,
            [`mov.u32 %r1, rest; st.shared.u32 [second], 0; st.shared.u32 [${address}], 1;`],
            declarations,
            dynamic,
          ),
          0n,
          1,
          8,
        ),
      );
    for (const inside of ["first+12", "second+12", "%r1+4"]) expect(run(inside)).toBe("clean");
    expect(run("first+16")).toMatch(/just past the end of first \(16 bytes\)$/);
    expect(run("second+16")).toMatch(/just past the end of second \(16 bytes\)$/);
    expect(run("%r1+8")).toMatch(/just past the end of dynamic shared memory \(8 bytes\)$/);
    expect(run("%r1+-4")).toMatch(/4 bytes before dynamic shared memory \(8 bytes\)$/);
  });

  test("generic addresses of shared memory are its own", () => {
    const run = (address: string) =>
      verdict(() =>
        launch(
          kernel(
            device,
            [`mov.u64 %b, row; cvta.shared.u64 %b, %b; st.u32 [${address}], 1;`],
            ".shared .align 4 .b8 row[20];",
          ),
          0n,
          1,
        ),
      );
    expect(run("%b+16")).toBe("clean");
    expect(run("%b+20")).toMatch(/writes 4 bytes at shared address 20, just past the end of row \(20 bytes\)$/);
    expect(run("%b+18")).toMatch(/is not a multiple of 4; it is 18 bytes into row \(20 bytes\)$/);
    expect(run("%b+4096")).toMatch(/: address 0x10000001000 is 4076 bytes past the end of row \(20 bytes\)$/);
  });

  test("local memory too", () => {
    const run = (offset: number) =>
      verdict(() =>
        launch(kernel(device, [`st.local.u32 [frame + ${offset}], 1;`], ".local .align 4 .b8 frame[20];"), 0n),
      );
    expect(run(16)).toBe("clean");
    expect(run(20)).toMatch(
      /out of bounds: .* writes 4 bytes at local address 20; the thread has 20 bytes of local memory$/,
    );
  });
});

describe("use after free", () => {
  test("a disposed buffer is found out, and whose it was", () => {
    const buffer = device.allocate(128, { tag: "logits" });
    device.stream.fill8(buffer.ptr, 0, 128);
    const { ptr } = buffer;
    expect(check(load, ptr)).toBe("clean");
    buffer.dispose();
    // The same size, which a caching pool would put in the same place.
    using other = device.allocate(128);
    expect(other.ptr).not.toBe(ptr);
    const found = check(load, ptr);
    expect(found).toMatch(/^CUDA_ERROR_ILLEGAL_ADDRESS: use after free: bug block \(0,0,0\) thread \(0,0,0\), /);
    expect(found).toMatch(/is 0 bytes into freed memory, 128 bytes at 0x[0-9a-f]+ \(logits\)$/);
    expect(check(store, ptr)).toContain("use after free");
  });

  test("memory is used again at last, as never written", () => {
    const megabytes = 2 ** 20;
    const seen = new Set<bigint>();
    for (let i = 0; i < 12; i++) {
      using buffer = device.allocate(64 * megabytes);
      seen.add(buffer.ptr);
      expect(check(load, buffer.ptr)).toContain("never-written memory");
      device.stream.fill8(buffer.ptr, 0, 128);
    }
    expect(seen.size).toBeGreaterThan(3);
    expect(seen.size).toBeLessThan(12);
  });
});

describe("never-written memory", () => {
  test("a kernel's read is found out, and a write makes it good", () => {
    using buffer = device.allocate(128, { tag: "scratch" });
    const found = check(load, buffer.ptr);
    expect(found).toMatch(/^CUDA_ERROR_LAUNCH_FAILED: never-written memory: bug block \(0,0,0\) thread \(0,0,0\), /);
    expect(found).toMatch(
      /the byte at 0x[0-9a-f]+, 0 bytes into the allocation of 128 bytes at 0x[0-9a-f]+ \(scratch\), has not been written$/,
    );
    expect(check(store, buffer.ptr, 31)).toBe("clean");
    expect(check(load, buffer.ptr, 31)).toBe("clean");
    expect(check(load, buffer.ptr, 32)).toMatch(/thread \(31,0,0\), .*124 bytes into/);
    expect(check(["atom.global.add.u32 %r0, [%out + 124], 1;"], buffer.ptr, 1)).toContain("never-written memory");
  });

  test("single bytes count", () => {
    using buffer = device.allocate(8);
    device.stream.fill8(buffer.ptr, 0, 3);
    expect(check(load, buffer.ptr, 1)).toContain("3 bytes into the allocation");
  });

  test("fills, copies of the host and pinned memory count as written; a copy of nothing does not", () => {
    using filled = device.allocate(128);
    device.stream.fill32(filled.ptr, 7, 32);
    using pinned = device.allocatePinned(128);
    expect(check(increment, pinned.devicePtr)).toBe("clean");
    using uploaded = device.allocate(128);
    device.stream.copyToDevice(uploaded.ptr, pinned, 0, 128);
    using empty = device.allocate(128);
    using copied = device.allocate(128);
    device.stream.copyOnDevice(copied.ptr, filled.ptr, 128);
    for (const { ptr } of [filled, uploaded, copied]) expect(check(increment, ptr)).toBe("clean");
    device.stream.copyOnDevice(copied.ptr, empty.ptr, 64);
    expect(check(load, copied.ptr + 64n, 16)).toBe("clean");
    expect(check(load, copied.ptr, 17)).toContain("never-written memory");
  });

  test("variables of a module have values", () => {
    const fn = device
      .loadModule(
        new TextEncoder().encode(
          ".version 7.0\n.target sm_60\n.address_size 64\n.global .align 4 .b8 table[8] = {1, 2};\n.visible .entry bug(.param .u64 out)\n{ .reg .b32 %r; ld.global.u32 %r, [table+4]; ret; }\n",
        ),
        "test/table",
      )
      .getFunction("bug");
    expect(verdict(() => launch(fn, 0n, 1))).toBe("clean");
  });

  test("a peer's memory keeps what is known of it", () => {
    const provider = new SimProvider({ checks: true });
    using here = provider.open("sim:sm_80");
    using there = provider.open("sim:sm_80:1");
    here.enablePeerAccess(there);
    using buffer = there.allocate(128, { tag: "shard" });
    const on = (source: readonly string[], threads: number) =>
      verdict(() => launch(kernel(here, source), buffer, threads));
    expect(on(load, 1)).toContain("never-written memory");
    expect(on(store, 16)).toBe("clean");
    expect(verdict(() => launch(kernel(there, load), buffer, 16))).toBe("clean");
    expect(verdict(() => launch(kernel(there, load), buffer, 17))).toContain("never-written memory");
  });
});

test("a captured graph may write again to what was freed during the capture", () => {
  using pool = device.createMemoryPool();
  const fn = kernel(device, increment);
  const write = kernel(device, store);
  using graph = device.useMemory(pool, () =>
    device.stream.capture(() => {
      using first = device.allocate(128);
      launch(write, first);
      launch(fn, first);
      first.dispose();
      using second = device.allocate(64);
      launch(write, second, 16);
      launch(fn, second, 16);
    }),
  );
  using ready = graph.instantiate();
  for (let i = 0; i < 3; i++) expect(verdict(() => ready.launch(device.stream))).toBe("clean");
});

test("a device without checks lets a buffer's neighbours be read, and its pool reuses memory", () => {
  using plain = new SimProvider({ checks: false }).open("sim:sm_80");
  const buffer = plain.allocate(100);
  expect(verdict(() => launch(kernel(plain, load), buffer, 32))).toBe("clean");
  const { ptr } = buffer;
  buffer.dispose();
  using again = plain.allocate(100);
  expect(again.ptr).toBe(ptr);
});
