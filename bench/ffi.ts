import { ArgumentError } from "../src/base/errors.ts";
import type { DevicePtr, StreamHandle } from "../src/driver/api.ts";
import { ffiEngine } from "../src/ffi/select.ts";
import { FakeDriver } from "../test/driver/fake-driver.ts";
import { noCompiler } from "../test/support/native.ts";
import type { Bench } from "./support/bench.ts";
import { formatTable, type Row } from "./support/table.ts";

/** How long one sample runs, and how many there are. The fastest is printed: what disturbs a host call only adds to it. */
const sampleMs = 20;
const samples = 15;

/**
 * What a call of the driver costs the host, by kind of call: through `CudaApi`, against a driver that does nothing
 * (test/driver/fake-libcuda.c), so that the numbers are ours and need no GPU.
 */
export const bench: Bench = {
  async run(args) {
    if (args.includes("--help")) {
      console.log("Usage: npm run bench -- ffi [koffi|ffi-rs]...   (needs a C compiler, no GPU)");
      return 0;
    }
    if (noCompiler !== undefined) throw new ArgumentError(`ffi: ${noCompiler}`);
    const runtime = process.versions.bun ? `Bun ${process.versions.bun}` : `Node ${process.versions.node}`;
    console.log(`${runtime}, ${process.platform}-${process.arch}`);
    for (const name of args.length > 0 ? args : ["koffi", "ffi-rs"]) {
      console.log(`\n${name}: fastest of ${samples} samples\n${formatTable(measure(name))}`);
    }
    return 0;
  },
};

function measure(name: string): Row[] {
  const fake = new FakeDriver(ffiEngine(name));
  const api = fake.api();
  const stream = api.createStream(0) as StreamHandle;
  const event = api.createEvent(false);
  const pinned = api.allocateHost(4096);
  const module = api.loadModule(new Uint8Array(1), "bench");
  const fn = api.getFunction(module, "bench");
  const args = api.scratch(64);
  const exec = api.instantiateGraph(api.endCapture(stream));
  const shape = { grid: [64, 1, 1], block: [256, 1, 1], sharedBytes: 0 } as const;
  const ptr = 0x7f12_3456_7800n as DevicePtr;
  api.setCurrent(api.retainContext(0));

  const cases: Record<string, () => void> = {
    "cuEventRecord (2 handles)": () => api.recordEvent(event, stream),
    "cuGraphLaunch (2 handles)": () => api.launchGraph(exec, stream),
    "cuMemcpyHtoDAsync (4 arguments)": () => api.copyToDevice(ptr, pinned, 0, 4096, stream),
    "cuLaunchKernel (11 arguments)": () => api.launch(fn, shape, stream, args, 40, false),
    "cuLaunchKernelEx (overlap)": () => api.launch(fn, shape, stream, args, 40, true),
    "cuEventQuery (status as value)": () => void api.queryEvent(event),
    "cuMemAlloc (1 out parameter)": () => void api.allocate(4096),
    "cuMemGetInfo (2 out parameters)": () => void api.memoryInfo(),
    "cuModuleGetFunction (a string in, 1 out)": () => void api.getFunction(module, "rms_norm_bf16"),
  };
  const rows = Object.entries(cases).map(([call, run]) => ({ call, ...time(run) }));
  fake.dispose();
  return rows;
}

/** Nanoseconds and JavaScript heap bytes of one call. */
function time(run: () => void): { ns: number; "heap bytes": number | undefined } {
  let calls = 16;
  // Doubles until a sample is long enough, which also warms up the compiler.
  do calls *= 2;
  while (elapsed(run, calls) < sampleMs);
  const taken = Array.from({ length: samples }, () => elapsed(run, calls));
  return { ns: (Math.min(...taken) / calls) * 1e6, "heap bytes": heapBytes(run) };
}

function elapsed(run: () => void, calls: number): number {
  const start = performance.now();
  for (let i = 0; i < calls; i++) run();
  return performance.now() - start;
}

/** Bun does not count its heap up to the moment. */
function heapBytes(run: () => void): number | undefined {
  if (process.versions.bun) return undefined;
  // Few enough that no collection falls into most samples; the counter itself costs some hundred bytes.
  const calls = 500;
  const taken = Array.from({ length: 9 }, () => {
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < calls; i++) run();
    return process.memoryUsage().heapUsed - before;
  });
  return Math.round(median(taken.filter((bytes) => bytes >= 0)) / calls);
}

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? 0;
}
