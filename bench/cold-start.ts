import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { StateError } from "../src/base/errors.ts";
import { defineBench, positiveInteger } from "./support/bench.ts";

/** The command as it is installed, run by the runtime that runs this. */
const command = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));

/**
 * From process start to the first token of the demonstration model, as a user sees it: the command is started, asked for
 * one token, and timed until that token is written. The driver keeps compiled kernels in a cache on disk; each run
 * without it starts with an empty one.
 */
export const bench = defineBench({
  name: "cold-start",
  options: { repeats: { help: "runs of each kind, of which the median counts", default: "5" } },
  measure({ table, device }, options) {
    if (!existsSync(command)) throw new StateError(`${command} is not there; run "npm run build" first`);
    const repeats = positiveInteger("repeats", options.repeats);
    const cache = mkdtempSync(join(tmpdir(), "llcuda-cache-"));
    try {
      const time = (fresh: boolean) => {
        if (fresh) rmSync(cache, { recursive: true, force: true });
        return firstToken(cache, device.name);
      };
      const median = (fresh: boolean) =>
        Array.from({ length: repeats }, () => time(fresh)).sort((a, b) => a - b)[repeats >> 1]!;
      const without = median(true);
      table(`process start to first token, demonstration model, medians of ${repeats}`, [
        { "driver cache": "empty", ms: without },
        { "driver cache": "filled", ms: median(false) },
      ]);
    } finally {
      rmSync(cache, { recursive: true, force: true });
    }
  },
});

/** Milliseconds. The process ends with its one token, so that its end is the token's. */
function firstToken(cache: string, device: string): number {
  const args = [command, "generate", "demo", "--chat", "-t", "0", "-n", "1", "-p", "What is 41 + 17?", "-d", device];
  const begin = performance.now();
  const result = spawnSync(process.execPath, args, {
    env: { ...process.env, CUDA_CACHE_PATH: cache },
    encoding: "utf8",
  });
  const ms = performance.now() - begin;
  if (result.status !== 0) throw new StateError(`cold-start: the command failed: ${result.stderr}`);
  return ms;
}
