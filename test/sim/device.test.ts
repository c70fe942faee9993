import { afterAll, describe, expect, test } from "vitest";
import { CudaError, DeviceError, OutOfMemoryError } from "../../src/base/errors.ts";
import type { DevicePtr } from "../../src/driver/api.ts";
import type { Device } from "../../src/driver/device.ts";
import { SimProvider } from "../../src/sim/provider.ts";

const provider = new SimProvider({ checks: false });
const device = provider.open("sim:sm_80");
afterAll(() => device.dispose());

function load(on: Device, body: string, parameters = ".param .u64 out") {
  const ptx = `.version 7.0\n.target sm_60\n.address_size 64\n.visible .entry k(${parameters})\n{\n${body}\n}\n`;
  return on.loadModule(new TextEncoder().encode(ptx), "test/k").getFunction("k");
}

/** Runs one block and returns `words` 32-bit words of its output. */
function run(body: string, threads: number, words = threads): Int32Array {
  const fn = load(
    device,
    `.reg .b64 %out, %a; .reg .b32 %t, %v, %w; .reg .pred %p, %q;
ld.param.u64 %out, [out]; mov.u32 %t, %tid.x; mad.wide.u32 %a, %t, 4, %out;\n${body}`,
  );
  using out = device.allocate(4 * words);
  using pinned = device.allocatePinned(4 * words);
  device.stream.fill32(out.ptr, 0, words);
  launch(device, fn, out.ptr, threads);
  device.stream.copyToHost(pinned, 0, out.ptr, 4 * words);
  return new Int32Array(pinned.buffer.slice(0));
}

function launch(on: Device, fn: ReturnType<typeof load>, pointer: bigint, threads = 1): void {
  const args = on.api.scratch(8);
  new DataView(args.buffer).setBigUint64(0, pointer, true);
  fn.launch(on.stream, { grid: [1, 1, 1], block: [threads, 1, 1], sharedBytes: 0 }, args, 8);
}

const store = "st.global.u32 [%a], %v; ret;";

describe("functions", () => {
  const module = (kernel: string) => `.version 7.0
.target sm_60
.address_size 64
.func (.param .b32 result) twice(.param .b32 number);
.func (.param .b32 result) power(.param .b32 base, .param .b32 exponent)
{
.reg .b32 %x, %n, %v; .reg .pred %p;
ld.param.u32 %x, [base]; ld.param.u32 %n, [exponent]; mov.u32 %v, 1;
$LOOP: setp.eq.u32 %p, %n, 0; @%p bra $END; mul.lo.u32 %v, %v, %x; sub.u32 %n, %n, 1;
setp.gt.u32 %p, %v, 1000; @%p st.param.b32 [result+0], 1000; @%p ret;
bra $LOOP;
$END: st.param.b32 [result+0], %v; ret;
}
.func (.reg .u32 %r) add3(.reg .u32 %a, .reg .u32 %b) { add.u32 %a, %a, %b; add.u32 %r, %a, 3; ret; }
.func (.param .b32 result) twice(.param .b32 number)
{
.reg .b32 %x; .param .b32 base; .param .b32 exponent; .param .b32 out;
ld.param.u32 %x, [number]; st.param.b32 [base], %x; st.param.b32 [exponent], 2;
call.uni (out), power, (base, exponent);
ld.param.u32 %x, [out]; st.param.b32 [result], %x; ret;
}
.visible .entry k(.param .u64 out)
{
.reg .b64 %out, %a; .reg .b32 %t, %v, %w; .reg .pred %p;
ld.param.u64 %out, [out]; mov.u32 %t, %tid.x; mad.wide.u32 %a, %t, 4, %out;
${kernel}
st.global.u32 [%a], %v; ret;
}
`;
  const results = (kernel: string): number[] => {
    const fn = device.loadModule(new TextEncoder().encode(module(kernel)), "test/functions").getFunction("k");
    using out = device.allocate(4 * 32);
    using pinned = device.allocatePinned(4 * 32);
    launch(device, fn, out.ptr, 32);
    device.stream.copyToHost(pinned, 0, out.ptr, 4 * 32);
    return [...new Int32Array(pinned.buffer.slice(0))];
  };
  const call = (name: string) =>
    `{ .param .b32 p0; .param .b32 p1; .param .b32 r; st.param.b32 [p0+0], %t; st.param.b32 [p1+0], 3;
call.uni (r), ${name}, (p0${name === "power" ? ", p1" : ""}); ld.param.b32 %v, [r+0]; }`;
  const lanes = Array.from({ length: 32 }, (_, t) => t);

  test("each call has variables and labels of its own, and lanes return where they may", () => {
    expect(
      results(`${call("power")} mov.u32 %w, %v; ${call("power")} sub.u32 %v, %v, %w; add.u32 %v, %v, %t;`),
    ).toEqual(lanes);
    expect(results(call("power"))).toEqual(lanes.map((t) => Math.min(1000, t ** 3)));
  });

  test("functions call functions, and parameters in registers are copied", () => {
    expect(results(call("twice"))).toEqual(lanes.map((t) => t * t));
    const guarded =
      "mov.u32 %v, 5; mov.u32 %w, 10; setp.lt.u32 %p, %t, 4; @%p call (%v), add3, (%t, %w); add.u32 %v, %v, %t;";
    expect(results(guarded)).toEqual(lanes.map((t) => (t < 4 ? t + 13 + t : 5 + t)));
  });

  test("what has no body is refused by name", () => {
    expect(() => results("call vprintf, (%v);")).toThrow(/PTX line \d+: the module has no body of vprintf/);
  });
});

test("brx.idx goes where the list of targets says, with a guard and for each lane", () => {
  const out = run(
    `and.b32 %w, %t, 3; setp.lt.u32 %p, %t, 24; mov.b32 %v, 7; ts: .branchtargets ZERO, ONE, ONE, THREE;
@%p brx.idx %w, ts; bra END; ZERO: mov.b32 %v, 100; bra END; ONE: mov.b32 %v, 101; bra END; THREE: mov.b32 %v, 103;
END: st.global.u32 [%a], %v; ret;`,
    32,
  );
  expect([...out.subarray(0, 5), out[23], out[24], out[31]]).toEqual([100, 101, 101, 103, 100, 103, 7, 7]);
});

describe("lanes together", () => {
  test("lanes diverge, meet at a shuffle, and read each other", () => {
    const out = run(
      `and.b32 %w, %t, 1; setp.eq.u32 %p, %w, 0; @%p bra EVEN; mul.lo.u32 %v, %t, 10; bra JOIN; EVEN: mul.lo.u32 %v, %t, 100;
JOIN: shfl.sync.bfly.b32 %v, %v, 1, 0x1f, 0xffffffff; ${store}`,
      64,
    );
    expect([...out.subarray(0, 4)]).toEqual([10, 0, 30, 200]);
    expect(out[33]).toBe(3200);
  });

  test("the first and last lanes of segments keep their own value", () => {
    const up = run(`shfl.sync.up.b32 %v|%p, %t, 3, 0x1800, 0xffffffff; @!%p add.u32 %v, %v, 1000; ${store}`, 32);
    expect([...up.subarray(6, 12)]).toEqual([3, 4, 1008, 1009, 1010, 8]);
    const down = run(`shfl.sync.down.b32 %v|%p, %t, 2, 0x1f, 0xffffffff; @!%p mov.u32 %v, 77; ${store}`, 32);
    expect([...down.subarray(28)]).toEqual([30, 31, 77, 77]);
  });

  test("votes, matches and reductions take the lanes of their mask", () => {
    const ballot = run(`setp.gt.u32 %p, %t, 28; vote.sync.ballot.b32 %v, %p, 0xffffffff; ${store}`, 32);
    expect(ballot[0]! >>> 0).toBe(0xe0000000);
    const half = run(
      `setp.lt.u32 %p, %t, 16; @%p bra LOW; mov.u32 %v, 5; bra OUT; LOW: setp.ne.u32 %q, %t, 99;
vote.sync.all.pred %q, %q, 0xffff; selp.u32 %v, 1, 0, %q; OUT: ${store}`,
      32,
    );
    expect([half[0], half[15], half[16]]).toEqual([1, 1, 5]);
    const match = run(`shr.u32 %w, %t, 3; match.any.sync.b32 %v, %w, 0xffffffff; ${store}`, 32);
    expect([match[0], match[9], match[31]! >>> 0]).toEqual([0xff, 0xff00, 0xff000000]);
    const sum = run(`redux.sync.add.s32 %v, %t, 0xffffffff; ${store}`, 32);
    expect(sum[7]).toBe(496);
  });

  test("a barrier orders shared memory, and its reductions count", () => {
    const exchange = run(
      `.shared .align 4 .b8 tile[512]; shl.b32 %w, %t, 2; mov.u32 %v, tile; add.u32 %w, %w, %v; st.shared.u32 [%w], %t;
bar.sync 0; sub.u32 %v, 127, %t; shl.b32 %v, %v, 2; mov.u32 %w, tile; add.u32 %w, %w, %v; ld.shared.u32 %v, [%w]; ${store}`,
      128,
    );
    expect([exchange[0], exchange[127], exchange[40]]).toEqual([127, 0, 87]);
    const count = run(`setp.lt.u32 %p, %t, 50; bar.red.popc.u32 %v, 0, %p; ${store}`, 96);
    expect(count[95]).toBe(50);
  });

  test("atomics of a whole block add up", () => {
    const out = run("atom.global.add.u32 %v, [%out], 2; atom.global.max.u32 %w, [%out+4], %t; ret;", 100, 2);
    expect([...out]).toEqual([200, 99]);
  });

  test("threads that have left are not waited for; threads that never come are named", () => {
    const out = run(`setp.gt.u32 %p, %t, 40; @%p ret; bar.sync 0; mov.u32 %v, 1; ${store}`, 64);
    expect([out[0], out[40], out[41]]).toEqual([1, 1, 0]);
    const stuck = `setp.gt.u32 %p, %t, 40; @%p bra OTHER; bar.sync 1; bra OUT; OTHER: bar.sync 2; OUT: ret;`;
    expect(() => run(stuck, 64)).toThrow(
      /CUDA_ERROR_LAUNCH_TIMEOUT: k block \(0,0,0\) thread \(0,0,0\), PTX line \d+ \(bar\.sync\) waits for threads of its block that never come: 41 of 64 live threads are there; thread \(41,0,0\) is at PTX line \d+ \(bar\.sync\)$/,
    );
    // Half a warp waits for the other half, which waits for the block.
    const halves = `setp.lt.u32 %p, %t, 16; @%p bra LOW; shfl.sync.idx.b32 %v, %t, 0, 0x1f, 0xffffffff; LOW: bar.sync 0; ret;`;
    expect(() => run(halves, 32)).toThrow(
      /\(shfl\.sync\.idx\.b32\) waits for lanes of its warp .*: 16 of 32 live threads are there; thread \(0,0,0\) is at PTX line \d+ \(bar\.sync\)$/,
    );
  });
});

describe("memory", () => {
  test("generic addresses reach shared and local memory", () => {
    const out = run(
      `.reg .b64 %g; .local .align 8 .b8 frame[16]; .shared .align 4 .b8 tile[128]; mov.u64 %g, frame; cvta.local.u64 %g, %g;
add.u32 %v, %t, 5; st.u32 [%g+4], %v; ld.local.u32 %w, [frame+4]; mov.u64 %g, tile; cvta.shared.u64 %g, %g;
mad.wide.u32 %g, %t, 4, %g; st.u32 [%g], %w; ld.u32 %v, [%g]; ${store}`,
      32,
    );
    expect([out[0], out[31]]).toEqual([5, 36]);
  });

  test.each([
    [
      "outside of all memory",
      "mov.u64 %a, 64; ld.global.u32 %v, [%a]; ret;",
      /CUDA_ERROR_ILLEGAL_ADDRESS: .*ld\.global\.u32\): address 0x40/,
    ],
    ["misaligned", "ld.global.v2.u32 {%v, %w}, [%out+4]; ret;", /CUDA_ERROR_MISALIGNED_ADDRESS: .*not a multiple of 8/],
    [
      "behind shared memory",
      ".shared .b32 one; ld.shared.u32 %v, [one+4096]; ret;",
      /CUDA_ERROR_ILLEGAL_ADDRESS: .*outside of the block's 16 bytes/,
    ],
    ["a trap", "trap; ret;", /CUDA_ERROR_LAUNCH_FAILED: k block \(0,0,0\) thread \(0,0,0\), PTX line \d+ \(trap\)/],
  ])("%s ends the launch", (_, body, message) => {
    expect(() => run(body, 1, 4)).toThrow(CudaError);
    expect(() => run(body, 1, 4)).toThrow(message);
  });

  test("kernels see pinned memory, and other devices once they are peers", () => {
    const body = `.reg .b64 %out; .reg .b32 %v; ld.param.u64 %out, [out]; ld.global.u32 %v, [%out]; add.u32 %v, %v, 1; st.global.u32 [%out], %v; ret;`;
    const fn = load(device, body);
    using pinned = device.allocatePinned(4);
    const words = new Uint32Array(pinned.buffer);
    words[0] = 41;
    launch(device, fn, pinned.devicePtr);
    expect(words[0]).toBe(42);

    using peer = provider.open("sim:sm_80:1");
    using there = peer.allocate(4);
    peer.stream.fill32(there.ptr, 7, 1);
    expect(() => launch(device, fn, there.ptr)).toThrow(/CUDA_ERROR_ILLEGAL_ADDRESS/);
    expect(device.enablePeerAccess(peer)).toBe(true);
    launch(device, fn, there.ptr);
    using here = device.allocate(4);
    device.stream.copyFromPeer(here.ptr, there.ptr, peer, 4);
    device.stream.copyToHost(pinned, 0, here.ptr, 4);
    expect(words[0]).toBe(8);
  });

  test("copies outside of an allocation, and more memory than there is, are refused", () => {
    const raw = device.api.allocate(100);
    expect(() => device.stream.fill8(raw, 0, 101)).toThrow(
      /CUDA_ERROR_INVALID_VALUE: .*0 bytes into the allocation of 100/,
    );
    device.api.free(raw);
    expect(() => device.api.free(raw)).toThrow(/CUDA_ERROR_INVALID_VALUE/);
    expect(() => device.stream.fill32((raw + 2n) as DevicePtr, 0, 1)).toThrow(/not a multiple of 4/);
    expect(() => device.api.allocate(2 ** 33)).toThrow(OutOfMemoryError);
    const before = device.memoryInfo().freeBytes;
    const [a, b, c] = [1000, 2000, 3000].map((bytes) => device.api.allocate(bytes)) as [
      DevicePtr,
      DevicePtr,
      DevicePtr,
    ];
    for (const ptr of [b, a, c]) device.api.free(ptr);
    expect(device.memoryInfo().freeBytes).toBe(before);
  });
});

describe("names and limits", () => {
  test("each architecture is a device of its own", () => {
    expect(provider.resolve("")).toBe("sim:sm_80");
    expect(() => provider.resolve("sm_90")).toThrow(DeviceError);
    using old = provider.open("sim:sm_60");
    expect(old.attributes.capability).toBe(60);
    expect(old.attributes.sharedPerBlockOptin).toBe(48 * 1024);
  });

  test("what a launch may not ask for is refused before it runs", () => {
    const fn = load(device, "ret;");
    const args = device.api.scratch(16);
    const shape = { grid: [1, 1, 1], block: [1, 1, 1], sharedBytes: 0 } as const;
    const attempt =
      (change: object, bytes = 8) =>
      () =>
        fn.launch(device.stream, { ...shape, ...change }, args, bytes);
    attempt({})();
    expect(attempt({ block: [1025, 1, 1] })).toThrow(/CUDA_ERROR_INVALID_VALUE/);
    expect(attempt({ grid: [1, 65536, 1] })).toThrow(/CUDA_ERROR_INVALID_VALUE/);
    expect(attempt({ grid: [0, 1, 1] })).toThrow(/CUDA_ERROR_INVALID_VALUE/);
    expect(attempt({ sharedBytes: 200 * 1024 })).toThrow(/CUDA_ERROR_INVALID_VALUE/);
    expect(attempt({}, 4)).toThrow(/4 bytes of arguments; it takes 8/);
  });

  test("PTX for a newer architecture is refused", () => {
    const ptx = ".version 8.0\n.target sm_90\n.address_size 64\n.entry k() { ret; }";
    expect(() => device.loadModule(new TextEncoder().encode(ptx), "new")).toThrow(/PTX for sm_90 does not run/);
  });
});
