import { UnsupportedError } from "../src/base/errors.ts";
import { defineBench, positiveInteger } from "./support/bench.ts";
import { loadProbes } from "./support/probes.ts";
import { ProductData, parseDtype, parseKernel, productFlops } from "./support/product.ts";
import type { Row } from "./support/table.ts";

/** Linear layers of an 8B model (Llama 3.1): attention output, gate or up, down, one of k and v. [N, K]. */
const layers = [
  [4096, 4096],
  [14336, 4096],
  [4096, 14336],
  [1024, 4096],
] as const;

/** x[M, K] · W[N, K]^T from one row (decoding) to a long prompt: own kernels against cuBLASLt. */
export const bench = defineBench({
  name: "linear",
  options: {
    dtype: { help: "bfloat16, float16 or float32", default: "bfloat16" },
    rows: { help: "values of M, comma-separated", default: "1,2,4,8,16,64,512,2048" },
    kernel: { help: "own, or one kernel of bench gemm", default: "own" },
    repeats: { help: "timed replays, of which the median counts", default: "15" },
  },
  measure({ device, table, note }, options) {
    const dtype = parseDtype(options.dtype);
    const repeats = positiveInteger("repeats", options.repeats);
    const kernels = [parseKernel(options.kernel), parseKernel("cublaslt")];
    const probes = loadProbes(device);
    const missing = new Map<string, string>();
    const rows: Row[] = [];
    for (const [n, k] of layers) {
      for (const m of options.rows.split(",").map((text) => positiveInteger("rows", text))) {
        using data = new ProductData(device, probes, { m, n, k }, dtype);
        const us = kernels.map((kernel) => {
          const timing = data.time(kernel, { repeats });
          if (!(timing instanceof UnsupportedError)) return timing.medianUs;
          missing.set(kernel.label, timing.message);
          return undefined;
        });
        const [own, cublaslt] = us;
        rows.push({
          "N x K": `${n} x ${k}`,
          M: m,
          "us own": own,
          "us cublaslt": cublaslt,
          "weights TB/s": own && (n * k * dtype.bytes) / own / 1e6,
          "TFLOP/s": own && productFlops(data.shape) / own / 1e6,
          "own / cublaslt": own && cublaslt && cublaslt / own,
        });
      }
    }
    table(`Linear layers, ${dtype.name}, weights from memory, median of ${repeats} graph replays`, rows);
    for (const [kernel, reason] of missing) note(`- ${kernel}: ${reason}`);
  },
});
