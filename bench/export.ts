import { copyFileSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { float32, uint8 } from "../src/base/dtype.ts";
import { ggmlBytes, ggmlType } from "../src/base/ggml.ts";
import type { Device } from "../src/driver/device.ts";
import { kFormats, quantizeGgmlK } from "../src/kernels/ggml/quantize.ts";
import { quantizeModel } from "../src/models/export/quantize-model.ts";
import { findModel } from "../src/models/find-model.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { defineBench, positiveInteger } from "./support/bench.ts";
import { writeRandomCheckpoint } from "./support/random-checkpoint.ts";
import type { Row } from "./support/table.ts";
import { timeRotating } from "./support/timing.ts";

/**
 * Writing a model as a GGUF file in another type: the kernels of the K types by themselves, and whole models of random numbers, from
 * the page cache. The checkpoint is written first and removed afterwards.
 */
export const bench = defineBench({
  name: "export",
  options: {
    shape: { help: "size of the checkpoint, or none for the kernels alone", default: "llama-3.1-8b" },
    to: { help: "comma-separated: what `llcuda quantize --to` takes for .gguf files", default: "q4_k_m" },
    repeats: { help: "exports, of which the median counts", default: "3" },
    folder: { help: "where to write (default: the system's folder for temporary files)" },
  },
  async measure({ device, table }, options) {
    table(
      "quantization to K types, 59 million normal numbers (14336 x 4096) from memory",
      kFormats.map((type) => timeKernel(device, type)),
    );
    if (options.shape === "none") return;
    const folder = mkdtempSync(join(options.folder ?? tmpdir(), "llcuda-export-"));
    try {
      const bytes = writeRandomCheckpoint(folder, options.shape);
      for (const file of ["tokenizer.json", "tokenizer_config.json"]) {
        copyFileSync(join(findModel("demo").path, file), join(folder, file));
      }
      const repeats = positiveInteger("repeats", options.repeats);
      const rows: Row[] = [];
      for (const to of options.to.split(",")) rows.push(await timeExport(folder, bytes, to, repeats, device));
      table(`export of ${options.shape} from bfloat16, page cache, median of ${repeats}`, rows);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
});

function timeKernel(device: Device, type: (typeof kFormats)[number]): Row {
  const count = 14336 * 4096;
  using x = Tensor.randn([count], { dtype: float32, device });
  using out = Tensor.empty([ggmlBytes(ggmlType(type), count)], { dtype: uint8, device });
  // 235 MB: more than a cache holds.
  const { medianUs } = timeRotating(device, 1, () =>
    quantizeGgmlK(device.stream, { out: out.ptr, x: x.ptr, count, type }),
  );
  return { type, us: medianUs, "billion values/s": count / medianUs / 1e3, "GB/s read": (4 * count) / medianUs / 1e3 };
}

async function timeExport(folder: string, bytes: number, to: string, repeats: number, device: Device): Promise<Row> {
  const path = join(folder, `${to}.gguf`);
  const runs: number[] = [];
  for (let i = 0; i < repeats; i++) {
    const begin = performance.now();
    await quantizeModel(folder, path, { to, device: device.name, force: true });
    runs.push((performance.now() - begin) / 1000);
  }
  const written = statSync(path).size;
  rmSync(path);
  const seconds = runs.sort((a, b) => a - b)[runs.length >> 1]!;
  return {
    type: to,
    "GB read": bytes / 1e9,
    "GB written": written / 1e9,
    seconds,
    "GB/s read": bytes / 1e9 / seconds,
    "peak host memory MB": process.resourceUsage().maxRSS / 1000,
  };
}
