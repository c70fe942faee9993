import type { FileResult } from "./results.ts";
import { type RunResult, runName } from "./run.ts";

export interface Machine {
  readonly gpu: string;
  /** Compute capability, such as `9.0`. */
  readonly capability: string;
  /** What the driver supports, such as `CUDA 13.0`, and its own version where nvidia-smi tells. */
  readonly driver: string;
  readonly runtime: string;
  readonly system: string;
  readonly commit: string;
  readonly date: string;
}

export interface Report {
  readonly machine: Machine;
  /** Targets that this GPU cannot run. */
  readonly leftOut: readonly string[];
  readonly runs: readonly RunResult[];
}

export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export function count(run: RunResult): Counts {
  const sum = (of: (f: FileResult) => number): number => run.files.reduce((n, f) => n + of(f), 0);
  return {
    passed: sum((f) => f.passed),
    failed: sum((f) => f.failed.length) + (run.crash ? 1 : 0),
    skipped: sum((f) => f.skipped.length),
  };
}

/** One page: the machine, a line per run, a table of files, and failed and skipped tests by name. */
export function toMarkdown({ machine, leftOut, runs }: Report): string {
  const lines = [
    `# GPU tests on ${machine.gpu}`,
    "",
    "Written by `npm run test:gpu`.",
    "",
    ...table(["", ""], Object.entries(machine)),
    "",
    "## Runs",
    "",
    ...table(
      ["target", "FFI engine", "passed", "failed", "skipped", "seconds"],
      runs.map((r) => {
        const c = count(r);
        return [r.target ?? "best", r.engine, c.passed, c.failed, c.skipped, r.seconds.toFixed(1)].map(String);
      }),
    ),
    "",
  ];
  if (leftOut.length > 0) lines.push(`Not run, because this GPU cannot run them: ${leftOut.join(", ")}.`, "");
  lines.push("## Files", "", "Passed, or passed / failed / skipped.", "", ...fileTable(runs), "");
  const failed = failedByName(runs);
  if (failed.length > 0) lines.push("## Failed", "", ...failed, "");
  const skipped = skippedByFile(runs);
  if (skipped.length > 0) lines.push("## Skipped", "", ...skipped, "");
  return `${lines.join("\n").trimEnd()}\n`;
}

function fileTable(runs: readonly RunResult[]): string[] {
  const files = [...new Set(runs.flatMap((r) => r.files.map((f) => f.file)))].sort();
  const cell = (run: RunResult, file: string): string => {
    const f = run.files.find((x) => x.file === file);
    if (!f) return "";
    const clean = f.failed.length === 0 && f.skipped.length === 0;
    return clean ? String(f.passed) : `${f.passed} / ${f.failed.length} / ${f.skipped.length}`;
  };
  return table(
    ["file", ...runs.map(runName)],
    files.map((file) => [file.replace(/^test\//, ""), ...runs.map((r) => cell(r, file))]),
  );
}

/** One line per test and what it said first, with the runs that it failed in. */
function failedByName(runs: readonly RunResult[]): string[] {
  const where = new Map<string, string[]>();
  for (const run of runs) {
    const note = (name: string): void => void where.set(name, [...(where.get(name) ?? []), runName(run)]);
    for (const { file, failed } of run.files) {
      for (const { name, message } of failed) note(`${file}: ${name}${message && `: ${message.split("\n")[0]}`}`);
    }
    if (run.crash) note(`the run ended without results: ${run.crash.replaceAll("\n", " ").slice(0, 400)}`);
  }
  return [...where].map(
    ([name, names]) => `- ${name} (${names.length === runs.length ? "every run" : names.join("; ")})`,
  );
}

/** One line per file and runs that skipped the same tests of it: how many, and the first by name, which tells why. */
function skippedByFile(runs: readonly RunResult[]): string[] {
  const groups = new Map<string, { file: string; skipped: readonly string[]; runs: string[] }>();
  for (const run of runs) {
    for (const { file, skipped } of run.files) {
      if (skipped.length === 0) continue;
      const key = JSON.stringify([file, skipped]);
      const group = groups.get(key) ?? { file, skipped, runs: [] };
      group.runs.push(runName(run));
      groups.set(key, group);
    }
  }
  return [...groups.values()].map(({ file, skipped, runs }) => {
    const example = skipped.length > 1 ? `${skipped.length} tests, such as ${skipped[0]}` : skipped[0];
    return `- ${file}, ${runs.join("; ")}: ${example}`;
  });
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const row = (cells: readonly string[]): string => `| ${cells.map((c) => c.replaceAll("|", "\\|")).join(" | ")} |`;
  return [row(head), row(head.map(() => "---")), ...rows.map(row)];
}
