import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findModelFiles } from "../src/formats/model-files/model-files.ts";
import { loadNetwork } from "../src/models/load-network.ts";
import { defineBench, positiveInteger } from "./support/bench.ts";
import { writeRandomCheckpoint } from "./support/random-checkpoint.ts";

/**
 * Loading a bfloat16 checkpoint of random numbers in shards, from the page cache: seconds, GB/s and the most host memory
 * that the process held. The checkpoint is written first and removed afterwards.
 */
export const bench = defineBench({
  name: "load",
  options: {
    shape: { help: "size of the checkpoint", default: "llama-3.1-8b" },
    dtype: { help: "what to load it as", default: "bfloat16" },
    repeats: { help: "loads, of which the median counts", default: "3" },
    folder: { help: "where to write it (default: the system's folder for temporary files)" },
  },
  async measure({ device, table }, options) {
    const folder = mkdtempSync(join(options.folder ?? tmpdir(), "llcuda-load-"));
    try {
      const bytes = writeRandomCheckpoint(folder, options.shape);
      const runs: number[] = [];
      for (let i = 0; i < positiveInteger("repeats", options.repeats); i++) {
        const files = findModelFiles(folder);
        const config = files.readConfig();
        const begin = performance.now();
        const network = await loadNetwork(files, config, device, { dtype: options.dtype });
        device.synchronize();
        runs.push((performance.now() - begin) / 1000);
        network.dispose();
      }
      const seconds = [...runs].sort((a, b) => a - b)[runs.length >> 1]!;
      table(`load ${options.shape} from bfloat16 as ${options.dtype}, page cache, median of ${runs.length}`, [
        {
          GB: bytes / 1e9,
          seconds,
          "GB/s": bytes / 1e9 / seconds,
          "first load s": runs[0],
          "peak host memory MB": process.resourceUsage().maxRSS / 1000,
        },
      ]);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
});
