import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type FileResult, readJunit, readVitest } from "./results.ts";

/** One pass over the GPU tests. */
export interface Run {
  readonly engine: "koffi" | "ffi-rs";
  /** LLCUDA_TARGET; undefined lets the loader choose. */
  readonly target: string | undefined;
}

export interface RunResult extends Run {
  readonly seconds: number;
  readonly files: readonly FileResult[];
  /** Set when the run ended without a report: the exit, and the end of what it printed. */
  readonly crash: string | undefined;
}

export const isBun = process.versions.bun !== undefined;

export function runName(run: Run): string {
  return `${run.target ?? "best target"}, ${run.engine}`;
}

/** Runs `files` in one process, so that each PTX module is compiled once. */
export async function runTests(run: Run, files: readonly string[], root: string): Promise<RunResult> {
  const folder = mkdtempSync(join(tmpdir(), "llcuda-test-"));
  const report = join(folder, isBun ? "report.xml" : "report.json");
  const env: NodeJS.ProcessEnv = { ...process.env, LLCUDA_FFI: run.engine, LLCUDA_REQUIRE_GPU: "1" };
  if (run.target) env.LLCUDA_TARGET = run.target;
  else delete env.LLCUDA_TARGET;
  const started = performance.now();
  const { exit, output } = await runChild(
    isBun ? bunArguments(report, files) : nodeArguments(report, files),
    root,
    env,
  );
  const seconds = (performance.now() - started) / 1000;
  try {
    if (!existsSync(report)) return { ...run, seconds, files: [], crash: `${exit}\n${output.slice(-4000)}` };
    const text = readFileSync(report, "utf8");
    const results = withMissing(isBun ? readJunit(text, root) : readVitest(text, root), files);
    // A runner that fails without a failed test met an error outside of tests; that must not pass for success.
    const failed = results.some((f) => f.failed.length > 0);
    const crash = exit !== "exit 0" && !failed ? `${exit}\n${output.slice(-4000)}` : undefined;
    return { ...run, seconds, files: results, crash };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A file that reports nothing could not be loaded: `bun test` leaves such files out of its report. */
function withMissing(results: readonly FileResult[], files: readonly string[]): FileResult[] {
  const missing = files.filter((file) => !results.some((r) => r.file === file));
  const failed = [{ name: "(the file itself)", message: "no results: it could not be loaded, or it has no tests" }];
  return [...results, ...missing.map((file) => ({ file, passed: 0, failed, skipped: [] }))];
}

function nodeArguments(report: string, files: readonly string[]): string[] {
  const options = [
    "--project=host",
    "--no-isolate",
    "--no-file-parallelism",
    "--reporter=json",
    `--outputFile=${report}`,
  ];
  return ["node_modules/vitest/vitest.mjs", "run", ...options, ...files];
}

/** `bun test` maps imports of "vitest" to its own API, so vitest need not be installed. */
function bunArguments(report: string, files: readonly string[]): string[] {
  const options = ["--timeout", "60000", "--reporter=junit", `--reporter-outfile=${report}`];
  return ["test", ...options, ...files.map((f) => `./${f}`)];
}

function runChild(
  args: readonly string[],
  cwd: string,
  env: NodeJS.ProcessEnv,
): Promise<{ exit: string; output: string }> {
  return new Promise((resolve) => {
    let output = "";
    const child = spawn(process.execPath, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
    const keep = (chunk: Buffer): void => {
      output = (output + chunk.toString()).slice(-20_000);
    };
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    child.on("error", (error) => resolve({ exit: `could not start: ${error.message}`, output }));
    child.on("close", (code, signal) => resolve({ exit: signal ? `signal ${signal}` : `exit ${code}`, output }));
  });
}
