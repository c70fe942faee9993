/** `npm run bench -- <name> [options]`, or `bun bench/main.ts <name> [options]`. One line here makes a benchmark known. */
import { LlcudaError } from "../src/base/errors.ts";
import type { Bench } from "./support/bench.ts";

const benches: Record<string, { summary: string; load: () => Promise<{ bench: Bench }> }> = {
  bandwidth: {
    summary: "the machine's ceilings: copy, read, bf16 matrix product",
    load: () => import("./bandwidth.ts"),
  },
  "cache-memory": {
    summary: "what keys and values take at a long context, with windows and without",
    load: () => import("./cache-memory.ts"),
  },
  export: { summary: "writing a model as a GGUF file in another type", load: () => import("./export.ts") },
  ffi: { summary: "what a driver call costs the host; no GPU needed", load: () => import("./ffi.ts") },
  gemm: { summary: "own matrix products against cuBLASLt", load: () => import("./gemm.ts") },
  decode: { summary: "tokens a second of whole models, one sequence or many", load: () => import("./decode.ts") },
  eval: { summary: "right answers of the demonstration model", load: () => import("./eval.ts") },
  launch: { summary: "what a kernel launch costs in JavaScript; no GPU needed", load: () => import("./launch.ts") },
  load: { summary: "streaming a checkpoint from the page cache to the GPU", load: () => import("./load.ts") },
  "cold-start": { summary: "from process start to the first token", load: () => import("./cold-start.ts") },
  kernels: {
    summary: "the kernels around the products: norms, attention, sampling, …",
    load: () => import("./kernels.ts"),
  },
  lora: { summary: "what adapters add to the products of an 8B model", load: () => import("./lora.ts") },
  moe: { summary: "a layer of experts, one token to a long prompt, by part", load: () => import("./moe.ts") },
  sim: {
    summary: "lane-operations a second of the software device, against JavaScript; no GPU needed",
    load: () => import("./sim.ts"),
  },
  linear: { summary: "linear layers of an 8B model, one row to a long prompt", load: () => import("./linear.ts") },
};

function usage(): string {
  const width = Math.max(...Object.keys(benches).map((name) => name.length));
  const lines = Object.entries(benches).map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`);
  return ["Usage: npm run bench -- <name> [options]   (<name> --help lists its options)", "", ...lines].join("\n");
}

async function main(args: string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === undefined || name === "--help" || name === "-h") {
    console.log(usage());
    return name === undefined ? 2 : 0;
  }
  const entry = Object.hasOwn(benches, name) ? benches[name] : undefined;
  if (!entry) {
    console.error(`bench: there is no benchmark "${name}"\n\n${usage()}`);
    return 2;
  }
  const { bench } = await entry.load();
  return bench.run(rest);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof LlcudaError)) throw error;
  console.error(`bench: ${error.message}`);
  process.exitCode = 2;
}
