import type { DType } from "../src/base/dtype.ts";
import { UnsupportedError } from "../src/base/errors.ts";
import { quantKernelNames } from "../src/kernels/quant-matmul/params.ts";
import { type BenchContext, defineBench, positiveInteger } from "./support/bench.ts";
import { loadProbes, readBandwidth } from "./support/probes.ts";
import { ProductData, parseDtype, parseKernel, productFlops } from "./support/product.ts";
import { parseQuantKernel, parseStored, QuantProductData } from "./support/quant-product.ts";
import type { Row } from "./support/table.ts";

/** Linear layers of an 8B model (Llama 3.1): attention output, gate or up, down, one of k and v. [N, K]. */
const layers = [
  [4096, 4096],
  [14336, 4096],
  [4096, 14336],
  [1024, 4096],
] as const;

interface Settings {
  readonly dtype: DType;
  readonly rows: readonly number[];
  readonly kernel: string;
  readonly repeats: number;
}

/**
 * x[M, K] · W[N, K]^T from one row (decoding) to a long prompt: own kernels against cuBLASLt, which with `--quant` still
 * multiplies with 16-bit weights.
 */
export const bench = defineBench({
  name: "linear",
  options: {
    dtype: { help: "bfloat16, float16 or float32", default: "bfloat16" },
    quant: { help: "how weights are stored: nf4, nf4-dq (double quantization), fp4, fp4-dq, q4_k, q8_0, …" },
    of: { help: "what weights in 4-bit codes were before, where not the dtype: bfloat16 for float16 products" },
    rows: { help: "values of M, comma-separated", default: "1,2,4,8,16,64,512,2048" },
    kernel: {
      help: `own, or one kernel: of bench gemm; with --quant ${quantKernelNames.join(", ")}`,
      default: "own",
    },
    repeats: { help: "timed replays, of which the median counts", default: "15" },
  },
  measure(context, options) {
    const settings: Settings = {
      dtype: parseDtype(options.dtype),
      rows: options.rows.split(",").map((text) => positiveInteger("rows", text)),
      kernel: options.kernel,
      repeats: positiveInteger("repeats", options.repeats),
    };
    if (options.quant === undefined) measurePlain(context, settings);
    else measureQuantized(context, settings, options.quant, options.of);
  },
});

function measurePlain({ device, table, note }: BenchContext, { dtype, rows: sizes, kernel, repeats }: Settings): void {
  const kernels = [parseKernel(kernel), parseKernel("cublaslt")];
  const probes = loadProbes(device);
  const missing = new Map<string, string>();
  const rows: Row[] = [];
  for (const [n, k] of layers) {
    for (const m of sizes) {
      using data = new ProductData(device, probes, { m, n, k }, dtype);
      const us = kernels.map((one) => {
        const timing = data.time(one, { repeats });
        if (!(timing instanceof UnsupportedError)) return timing.medianUs;
        missing.set(one.label, timing.message);
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
}

function measureQuantized(context: BenchContext, settings: Settings, quant: string, of: string | undefined): void {
  const { device, table, note } = context;
  const { dtype, rows: sizes, repeats } = settings;
  const stored = parseStored(quant, of);
  const kernel = parseQuantKernel(settings.kernel);
  const bandwidth = readBandwidth(device);
  const probes = loadProbes(device);
  const missing = new Set<string>();
  const rows: Row[] = [];
  const dequantized: Row[] = [];
  for (const [n, k] of layers) {
    const layer = `${n} x ${k}`;
    using data = new QuantProductData(device, probes, { m: Math.max(...sizes), n, k }, dtype, stored);
    for (const m of sizes) {
      const own = data.time(m, kernel, { repeats });
      const overlapping = data.time(m, kernel, { repeats, overlap: true });
      using plain = new ProductData(device, probes, { m, n, k }, dtype);
      const cublaslt = plain.time(parseKernel("cublaslt"), { repeats });
      if (own instanceof UnsupportedError) missing.add(own.message);
      if (cublaslt instanceof UnsupportedError) missing.add(cublaslt.message);
      const us = own instanceof UnsupportedError ? undefined : own.timing.medianUs;
      const plainUs = cublaslt instanceof UnsupportedError ? undefined : cublaslt.medianUs;
      const rate = us && data.weightBytes / us / 1e6;
      rows.push({
        "N x K": layer,
        M: m,
        kernel: own instanceof UnsupportedError ? undefined : own.kernel,
        "us own": us,
        "us overlapping": overlapping instanceof UnsupportedError ? undefined : overlapping.timing.medianUs,
        "us cublaslt": plainUs,
        "weights TB/s": rate,
        "of read": rate && rate / bandwidth,
        "TFLOP/s": us && productFlops({ m, n, k }) / us / 1e6,
        "own / cublaslt": us && plainUs && plainUs / us,
      });
    }
    const { medianUs } = data.timeDequantize({ repeats });
    const moved = (data.weightBytes + n * k * dtype.bytes) / medianUs / 1e6;
    dequantized.push({ "N x K": layer, us: medianUs, "TB/s moved": moved });
  }
  const read = `read bandwidth ${bandwidth.toFixed(2)} TB/s`;
  table(
    `Linear layers, ${quant}${of ? ` of ${of}` : ""}, x and cuBLASLt's weights in ${dtype.name}, from memory, median of ${repeats} graph replays; ${read}`,
    rows,
  );
  table(`Dequantized to ${dtype.name} (read + written)`, dequantized);
  for (const reason of missing) note(`- ${reason}`);
}
