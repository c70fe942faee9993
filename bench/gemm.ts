import { UnsupportedError } from "../src/base/errors.ts";
import { defineBench, positiveInteger } from "./support/bench.ts";
import { loadProbes } from "./support/probes.ts";
import { ProductData, parseDtype, parseKernel, parseShapes, productBytes, productFlops } from "./support/product.ts";
import type { Row } from "./support/table.ts";
import { torchGemm } from "./support/torch-peer.ts";

/** Cubes; then the projections of an 8B model (Llama 3.1) for prompts of 512 and 2048 tokens: qkv, gate and up, down. */
const defaultShapes =
  "1024,2048,4096,8192,512x6144x4096,512x28672x4096,512x4096x14336,2048x6144x4096,2048x28672x4096,2048x4096x14336";

/** Own matrix products against cuBLASLt, in one run on one machine: TFLOP/s, and the best own kernel's share. */
export const bench = defineBench({
  name: "gemm",
  options: {
    dtype: { help: "bfloat16, float16 or float32", default: "bfloat16" },
    shapes: { help: "MxNxK, comma-separated; one number for a cube", default: defaultShapes },
    kernels: {
      help: "kernels, comma-separated; name:tile forces a tile",
      default: "simt,wmma,mma,hopper,own,cublaslt",
    },
    repeats: { help: "timed replays, of which the median counts", default: "15" },
    peer: { help: "torch: also measure PyTorch, where python3 has it" },
  },
  measure({ device, table, note }, options) {
    const dtype = parseDtype(options.dtype);
    const shapes = parseShapes(options.shapes);
    const kernels = options.kernels.split(",").map(parseKernel);
    const repeats = positiveInteger("repeats", options.repeats);
    const probes = loadProbes(device);
    const missing = new Map<string, string>();
    const rows: Row[] = [];
    for (const shape of shapes) {
      using data = new ProductData(device, probes, shape, dtype);
      const rates: Record<string, number | undefined> = {};
      for (const kernel of kernels) {
        const timing = data.time(kernel, { repeats });
        if (timing instanceof UnsupportedError) missing.set(kernel.label, timing.message);
        rates[kernel.label] =
          timing instanceof UnsupportedError ? undefined : productFlops(shape) / timing.medianUs / 1e6;
      }
      const { cublaslt, ...own } = rates;
      const best = Math.max(...Object.values(own).map((rate) => rate ?? 0));
      rows.push({
        "M x N x K": `${shape.m} x ${shape.n} x ${shape.k}`,
        "MB, at least": productBytes(shape, dtype) / 1e6,
        ...rates,
        "best own / cublaslt": cublaslt && best ? best / cublaslt : undefined,
      });
    }
    if (options.peer) {
      const peer = torchGemm(options.peer, shapes, dtype);
      if (typeof peer === "string") note(`torch: ${peer}`);
      else for (const [i, rate] of peer.entries()) rows[i] = { ...rows[i], torch: rate };
    }
    table(`TFLOP/s, ${dtype.name}, random data, operands from memory, median of ${repeats} graph replays`, rows);
    for (const [kernel, reason] of missing) note(`- ${kernel}: ${reason}`);
  },
});
