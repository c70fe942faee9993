import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

/** Threads load compiled modules: these tests run the build in a process of their own. */
const index = new URL("../../dist/index.js", import.meta.url).href;
const internal = (path: string) => new URL(`../../dist/${path}`, import.meta.url).href;
const root = fileURLToPath(new URL("../../", import.meta.url));

function runScript(script: string, threads: number): unknown {
  const env = { ...process.env, LLCUDA_SIM_THREADS: String(threads) };
  const out = execFileSync(process.execPath, ["--input-type=module", "-e", script], {
    cwd: root,
    env,
    encoding: "utf8",
  });
  return JSON.parse(out);
}

/** 64 blocks of 256 threads; block b of them adds to its part of an array, long enough that several threads take part. */
const kernel = `.version 7.0
.target sm_60
.address_size 64
.visible .entry k(.param .u64 out, .param .u64 other, .param .u32 bad)
{
.reg .b64 %out, %a, %other; .reg .b32 %t, %b, %n, %i, %v, %bad; .reg .pred %p, %q;
ld.param.u64 %out, [out]; ld.param.u64 %other, [other]; ld.param.u32 %bad, [bad];
mov.u32 %t, %tid.x; mov.u32 %b, %ctaid.x; mov.u32 %n, %ntid.x;
mad.lo.u32 %i, %b, %n, %t; mad.wide.u32 %a, %i, 4, %out;
ld.global.u32 %v, [%other]; mov.u32 %i, 0;
LOOP: add.u32 %v, %v, %b; add.u32 %i, %i, 1; setp.lt.u32 %p, %i, 2000; @%p bra LOOP;
setp.ge.u32 %q, %b, %bad; @%q st.global.u32 [8], %v;
st.global.u32 [%a], %v; ret;
}
`;

const script = (bad: number) => `
import { openDevice } from ${JSON.stringify(index)};
import { TeamControl } from ${JSON.stringify(internal("sim/threads/control.js"))};
const device = openDevice("sim:sm_80");
const fn = device.loadModule(new TextEncoder().encode(${JSON.stringify(kernel)}), "test/k").getFunction("k");
const out = device.allocate(4 * 64 * 256);
const pinned = device.allocatePinned(4 * 64 * 256);
const other = device.allocatePinned(16);
new Int32Array(other.buffer)[0] = 1000;
const args = device.api.scratch(24);
const view = new DataView(args.buffer);
view.setBigUint64(0, out.ptr, true);
view.setBigUint64(8, other.devicePtr, true);
view.setUint32(16, ${bad}, true);
// Every block takes one number, and the last one too many.
let own = 0;
const take = TeamControl.prototype.takeBlock;
TeamControl.prototype.takeBlock = function () { own++; return take.call(this); };
let launches = 0, error;
try {
  // Threads start while the first launches run; later ones are shared with them.
  do {
    own = 0;
    launches++;
    fn.launch(device.stream, { grid: [64, 1, 1], block: [256, 1, 1], sharedBytes: 0 }, args, 20);
  } while (own > 64 && launches < 200);
} catch (e) { error = { name: e.name, symbol: e.statusName, message: e.message }; }
device.stream.copyToHost(pinned, 0, out.ptr, 4 * 64 * 256);
const values = [...new Int32Array(pinned.buffer)].filter((_, i) => i % 256 === 77);
console.log(JSON.stringify({ values, shared: own <= 64, error }));
device.dispose();
`;

interface Answer {
  values: number[];
  shared: boolean;
  error?: { name: string; symbol: string; message: string };
}

describe("blocks on several threads", () => {
  test("every block is run once, reads pinned memory, and the process ends", () => {
    const { values, shared, error } = runScript(script(1000), 3) as Answer;
    expect(error).toBeUndefined();
    expect(shared).toBe(true);
    expect(values).toEqual(Array.from({ length: 64 }, (_, b) => 1000 + 2000 * b));
  });

  test("a fault on any thread is thrown by the launch, with its block, thread and line", () => {
    const { error } = runScript(script(0), 3) as Answer;
    expect(error).toMatchObject({ name: "CudaError", symbol: "CUDA_ERROR_ILLEGAL_ADDRESS" });
    expect(error?.message).toMatch(/k block \(\d+,0,0\) thread \(0,0,0\), PTX line 12 .*st\.global\.u32/);
  });

  test("one thread is enough", () => {
    const { values } = runScript(script(1000).replace("launches < 200", "launches < 1"), 1) as Answer;
    expect(values[63]).toBe(1000 + 2000 * 63);
  });
});
