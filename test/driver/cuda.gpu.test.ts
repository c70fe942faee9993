import { expect, test } from "vitest";
import { CudaError, ModuleError } from "../../src/base/errors.ts";
import type { DevicePtr } from "../../src/driver/api.ts";
import { describeGpu, upload } from "../support/gpu.ts";

/** Adds `delta` to the first `n` of `x`: small enough to be written by hand, for any GPU from sm_60 on. */
const addPtx = `.version 6.0
.target sm_60
.address_size 64
.visible .entry add_i32(.param .u64 x, .param .u32 n, .param .u32 delta)
{
  .reg .pred %p;
  .reg .b32 %r<6>;
  .reg .b64 %a<3>;
  ld.param.u64 %a0, [x];
  ld.param.u32 %r0, [n];
  ld.param.u32 %r1, [delta];
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r3, %ntid.x;
  mov.u32 %r4, %tid.x;
  mad.lo.s32 %r2, %r2, %r3, %r4;
  setp.ge.u32 %p, %r2, %r0;
  @%p ret;
  cvta.to.global.u64 %a0, %a0;
  mul.wide.u32 %a1, %r2, 4;
  add.s64 %a0, %a0, %a1;
  ld.global.u32 %r5, [%a0];
  add.s32 %r5, %r5, %r1;
  st.global.u32 [%a0], %r5;
  ret;
}
`;

const text = (ptx: string): Uint8Array => new TextEncoder().encode(ptx);

describeGpu("the CUDA driver", (device) => {
  /** Runs `submit` on device memory of `count` zeros, and returns what it holds afterwards. */
  const run = (count: number, submit: (launch: (delta: number) => void) => void): Int32Array => {
    using module = device.loadModule(text(addPtx), "test/add");
    const fn = module.getFunction("add_i32");
    const x = upload(device, new Int32Array(count));
    const args = device.api.scratch(16);
    const view = new DataView(args.buffer);
    submit((delta) => {
      view.setBigUint64(0, x, true);
      view.setUint32(8, count, true);
      view.setInt32(12, delta, true);
      const grid = [Math.ceil(count / 128), 1, 1] as const;
      fn.launch(device.stream, { grid, block: [128, 1, 1], sharedBytes: 0 }, args, 16);
    });
    using staging = device.allocatePinned(count * 4);
    device.stream.copyToHost(staging, 0, x, count * 4);
    device.stream.synchronize();
    return new Int32Array(staging.buffer.slice(0));
  };

  test("launches see the arguments as they were when launched", () => {
    const out = run(1000, (launch) => {
      launch(1);
      launch(20);
      launch(-300);
    });
    expect(out.every((v) => v === -279)).toBe(true);
  });

  test("a captured graph runs when it is launched, as often as it is", () => {
    const out = run(333, (launch) => {
      using graph = device.stream.capture(() => {
        launch(3);
        launch(4);
      });
      expect(graph.nodeCount).toBe(2);
      using exec = graph.instantiate();
      for (let i = 0; i < 5; i++) exec.launch(device.stream);
      using other = device.stream.capture(() => {
        launch(100);
        launch(200);
      });
      expect(exec.update(other)).toBe(true);
      exec.launch(device.stream);
      using longer = device.stream.capture(() => launch(1));
      expect(exec.update(longer)).toBe(false);
      device.stream.synchronize();
    });
    expect(out.every((v) => v === 335)).toBe(true);
  });

  test("the device says who it is", () => {
    const a = device.attributes;
    expect(a.uuid).toMatch(/^GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    expect(a.pciBus).toMatch(/^[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:/);
    expect(a.name.length > 3).toBe(true);
    expect(a.warpSize).toBe(32);
    expect(a.capability >= 60).toBe(true);
    const { freeBytes, totalBytes } = device.memoryInfo();
    expect(freeBytes > 0 && freeBytes <= totalBytes && totalBytes <= a.totalMemory).toBe(true);
  });

  test("PTX that does not compile: the compiler's log, with the line", () => {
    const broken = addPtx.replace("add.s32 %r5, %r5, %r1;", "add.s33 %r5, %r5, %r1;");
    try {
      device.loadModule(text(broken), "test/broken").dispose();
      expect("loaded").toBe("refused");
    } catch (error) {
      expect(error instanceof ModuleError).toBe(true);
      expect((error as ModuleError).log).toMatch(/line 2\d/);
      expect((error as Error).message).toMatch(/^test\/broken: /);
    }
  });

  test("a function that a module lacks", () => {
    using module = device.loadModule(text(addPtx), "test/add");
    expect(() => module.getFunction("no_such_kernel")).toThrow(/CUDA_ERROR_NOT_FOUND/);
    expect(module.getFunction("add_i32").attributes.registers > 0).toBe(true);
  });

  test("a launch that no GPU can run is refused with the driver's name for it", () => {
    using module = device.loadModule(text(addPtx), "test/add");
    const fn = module.getFunction("add_i32");
    const shape = { grid: [1, 1, 1], block: [4096, 1, 1], sharedBytes: 0 } as const;
    expect(() => fn.launch(device.stream, shape, device.api.scratch(16), 16)).toThrow(CudaError);
    device.synchronize(); // The context survives it.
  });

  test("events measure time, and pinned memory is visible to the device", () => {
    using start = device.createEvent({ timing: true });
    using end = device.createEvent({ timing: true });
    using pinned = device.allocatePinned(4096);
    device.stream.record(start);
    device.stream.fill32(pinned.devicePtr as DevicePtr, 0x01020304, 1024);
    device.stream.record(end);
    end.synchronize();
    expect(end.done && device.stream.idle).toBe(true);
    expect(end.elapsedMs(start) >= 0).toBe(true);
    expect(new Uint32Array(pinned.buffer).every((v) => v === 0x01020304)).toBe(true);
  });
});
