import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { promisify } from "node:util";

const run = promisify(execFile);

export interface ToolResult {
  readonly ok: boolean;
  readonly output: string;
}

/** Runs a program; a failing exit code is a result, not an exception. */
export async function runTool(path: string, args: readonly string[], cwd?: string): Promise<ToolResult> {
  try {
    const { stdout, stderr } = await run(path, args, { cwd, maxBuffer: 64 << 20 });
    return { ok: true, output: stdout + stderr };
  } catch (error) {
    const { stdout = "", stderr = "", message } = error as { stdout?: string; stderr?: string; message: string };
    return { ok: false, output: stdout + stderr || message };
  }
}

/** A program of the CUDA toolkit: in CUDA_HOME or CUDA_PATH, in the usual place, or on the search path. */
export async function findTool(name: "nvcc" | "ptxas"): Promise<string | undefined> {
  const exe = process.platform === "win32" ? `${name}.exe` : name;
  const homes = [process.env.CUDA_HOME, process.env.CUDA_PATH, "/usr/local/cuda"];
  for (const home of homes) if (home && existsSync(`${home}/bin/${exe}`)) return `${home}/bin/${exe}`;
  return (await runTool(exe, ["--version"])).ok ? exe : undefined;
}

/** `nvcc 13.0.88`. */
export async function compilerVersion(nvcc: string): Promise<string> {
  const { output } = await runTool(nvcc, ["--version"]);
  return `nvcc ${/V(\d+\.\d+\.\d+)/.exec(output)?.[1] ?? "unknown"}`;
}

/** Runs `work` over `items`, `width` at a time. */
export async function inParallel<T>(
  items: readonly T[],
  width: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) await work(items[next++]!);
  };
  await Promise.all(Array.from({ length: width }, worker));
}
