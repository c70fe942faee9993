import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { run } from "../../src/cli/program.ts";

export interface CliResult {
  readonly code: number | string | null | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
/** Node needs help to run the sources, which is what tests must run: `dist` may be of another day. */
const loader = process.versions.bun ? [] : ["--import", import.meta.resolve("tsx")];

/** A driver that cannot be opened, so that a machine with a GPU answers as one without. */
export const noDriver = { LLCUDA_CUDA_LIBRARY: "/nowhere/libcuda.so.1" };

/** Runs `llcuda` in this process, which takes a hundredth of the time. Not for what reads standard input. */
export async function llcuda(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<CliResult> {
  const written = { stdout: "", stderr: "" };
  const variables = { ...noDriver, ...env };
  const before = Object.keys(variables).map((name) => [name, process.env[name]] as const);
  const streams = ["stdout", "stderr"] as const;
  const writes = streams.map((name) => process[name].write);
  Object.assign(process.env, variables);
  for (const name of streams) {
    process[name].write = (text: string | Uint8Array) => {
      written[name] += text;
      return true;
    };
  }
  try {
    await run(args);
    return { code: process.exitCode ?? 0, ...written };
  } finally {
    process.exitCode = 0;
    for (const [i, name] of streams.entries()) process[name].write = writes[i]!;
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}

/** How to start `llcuda` in a process of its own, from its sources. */
export function command(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  return {
    file: process.execPath,
    args: [...loader, main, ...args],
    env: { ...process.env, NO_COLOR: "1", NODE_OPTIONS: "", ...noDriver, ...env },
  };
}

/** Runs that process to its end. */
export function llcudaProcess(
  args: readonly string[],
  options: { input?: string; env?: Readonly<Record<string, string>> } = {},
): CliResult {
  const { file, args: all, env } = command(args, options.env);
  const { status, stdout, stderr } = spawnSync(file, all, {
    encoding: "utf8",
    input: options.input ?? "",
    env,
    timeout: 60_000,
  });
  return { code: status, stdout, stderr };
}
