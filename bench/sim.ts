import { availableParallelism } from "node:os";
import { performance } from "node:perf_hooks";
import { ArgumentError } from "../src/base/errors.ts";
import { openDevice } from "../src/driver/open.ts";
import { CustomKernel } from "../src/kernels/custom.ts";
import { registerSim } from "../src/sim/register.ts";
import { type Bench, positiveInteger } from "./support/bench.ts";
import { translateToJavaScript } from "./support/js-translation.ts";
import { type SimKernel, simKernels } from "./support/sim-kernels.ts";
import { formatTable, type Row } from "./support/table.ts";

const threadsPerBlock = 256;
const samples = 7;

/**
 * How fast the software device executes: billions of lane-operations (PTX instructions, counted for each thread) a second,
 * next to a translation of the same PTX to JavaScript and to the loop that a JavaScript programmer would write. All on one
 * thread. Needs no GPU.
 */
export const bench: Bench = {
  async run(args) {
    if (args.includes("--help")) {
      console.log("Usage: npm run bench -- sim [blocks] [steps]   (default 16 and 2000; needs no GPU)");
      return 0;
    }
    const [blocks = 16, steps = 2000] = args.map((text, i) => positiveInteger(i === 0 ? "blocks" : "steps", text));
    if (args.length > 2) throw new ArgumentError(`sim: ${args.length} arguments, expected [blocks] [steps]`);
    const runtime = process.versions.bun ? `Bun ${process.versions.bun}` : `Node ${process.versions.node}`;
    console.log(
      `${runtime}, ${process.platform}-${process.arch}, ${availableParallelism()} cores: medians of ${samples}`,
    );
    console.log("10^9 lane-operations a second\n");
    console.log(formatTable(simKernels.map((kernel) => measure(kernel, blocks, steps))));
    return 0;
  },
};

function measure(kernel: SimKernel, blocks: number, steps: number): Row {
  const threads = blocks * threadsPerBlock;
  const operations = threads * kernel.instructions(steps);
  const x = Float32Array.from({ length: threads + steps }, (_, i) => 1 + (i % 97) / 97);
  const expected = new Float32Array(threads);
  const plain = median(() => kernel.plain(threads, steps, x, expected));

  const memory = new ArrayBuffer(4 * (2 * threads + steps));
  new Float32Array(memory, 4 * threads).set(x);
  const translated = translateToJavaScript(kernel.ptx);
  const javascript = median(() => translated(memory, blocks, threadsPerBlock, { out: 0, x: 4 * threads, steps }));

  const { milliseconds, out } = onDevice(kernel, blocks, steps, x);
  const words = new Int32Array(memory);
  const mismatch = out.findIndex((word, i) => word !== words[i]);
  if (mismatch >= 0) throw new Error(`${kernel.name}: word ${mismatch} differs between WebAssembly and JavaScript`);
  const rate = (ms: number) => operations / (ms * 1e6);
  return {
    kernel: kernel.name,
    "WebAssembly (sim)": rate(milliseconds),
    "JavaScript translation": rate(javascript),
    "plain JavaScript": rate(plain),
    "sim / translation": javascript / milliseconds,
  };
}

function onDevice(kernel: SimKernel, blocks: number, steps: number, x: Float32Array) {
  // Threads of the software device load built code, which this is not.
  registerSim();
  const device = openDevice("sim:sm_80");
  const bytes = 4 * blocks * threadsPerBlock;
  using run = new CustomKernel(device, { ptx: kernel.ptx, symbol: "k", args: { out: "ptr", x: "ptr", steps: "u32" } });
  using out = device.allocate(bytes);
  using input = device.allocate(x.byteLength);
  using staging = device.allocatePinned(Math.max(bytes, x.byteLength));
  new Float32Array(staging.buffer).set(x);
  device.stream.copyToDevice(input.ptr, staging, 0, x.byteLength);
  const milliseconds = median(() =>
    run.launch({ grid: [blocks], block: threadsPerBlock }, { out: out.ptr, x: input.ptr, steps }),
  );
  device.stream.copyToHost(staging, 0, out.ptr, bytes);
  return { milliseconds, out: new Int32Array(staging.buffer.slice(0, bytes)) };
}

/** Milliseconds; the first runs, in which engines compile, do not count. */
function median(run: () => void): number {
  for (let i = 0; i < 3; i++) run();
  const times = Array.from({ length: samples }, () => {
    const started = performance.now();
    run();
    return performance.now() - started;
  });
  return times.sort((a, b) => a - b)[samples >>> 1]!;
}
