import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { DType } from "../../src/base/dtype.ts";
import { ArgumentError } from "../../src/base/errors.ts";
import type { ProductShape } from "./product.ts";

/** TFLOP/s of `A @ B.T` in PyTorch for each shape, or a sentence that says why there are none. */
export function torchGemm(peer: string, shapes: readonly ProductShape[], dtype: DType): number[] | string {
  if (peer !== "torch") throw new ArgumentError(`--peer: "${peer}" is not known; use torch`);
  const script = fileURLToPath(new URL("../peers/torch_gemm.py", import.meta.url));
  const input = JSON.stringify({ dtype: dtype.name, shapes: shapes.map(({ m, n, k }) => [m, n, k]) });
  const run = spawnSync("python3", [script], { input, encoding: "utf8", timeout: 300_000 });
  if (run.error) return `python3 did not run: ${run.error.message}`;
  if (run.status !== 0) return `${run.stderr.trim().split("\n").at(-1) ?? `exit code ${run.status}`}`;
  return JSON.parse(run.stdout) as number[];
}
