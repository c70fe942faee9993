import { ArgumentError } from "../../base/errors.ts";
import { elementCount } from "../../base/shape.ts";
import { cost } from "../../sim/profile/counts.ts";
import { bySourceLine, type KernelProfile } from "../../sim/profile/kernel-profile.ts";
import { dim } from "../terminal.ts";
import { elementsOf, formatBuffer, type HostBuffer, saveBuffer } from "./host-buffer.ts";
import type { PreparedRun, RunResult } from "./kernel-run.ts";
import { formatProfile, type SortKey } from "./profile-report.ts";
import { SourceText } from "./source-text.ts";
import { formatTrace, traceStepJson } from "./trace-report.ts";
import type { WatchedRun } from "./watched-run.ts";

/** What is to be shown of the buffers after a run. */
export interface WantedOutput {
  readonly printed: readonly { readonly buffer: HostBuffer; readonly count: number }[];
  readonly saved: readonly { readonly buffer: HostBuffer; readonly path: string }[];
}

/** `--print out:16`, and `--save out=file`. Throws ArgumentError for buffers that are not there. */
export function parseOutputs(
  flags: { readonly print?: readonly string[]; readonly save?: readonly string[] },
  buffers: readonly HostBuffer[],
): WantedOutput {
  const find = (option: string, name: string): HostBuffer => {
    const found = buffers.find((buffer) => buffer.name === name);
    const known = buffers.length === 0 ? "there are no buffers" : `there are ${buffers.map((b) => b.name).join(", ")}`;
    if (!found) throw new ArgumentError(`${option}: no --arg makes a buffer "${name}"; ${known}`);
    return found;
  };
  const printed = (flags.print ?? []).map((text) => {
    const [, name = "", count] = /^([^:]*)(?::(\d{1,9}))?$/.exec(text) ?? [undefined, text];
    const buffer = find(`--print ${text}`, name);
    return { buffer, count: Math.min(Number(count ?? Number.POSITIVE_INFINITY), elementCount(buffer.shape)) };
  });
  const saved = (flags.save ?? []).map((text) => {
    const at = text.indexOf("=");
    if (at < 1 || at === text.length - 1)
      throw new ArgumentError(`--save ${text}: give a buffer and a file: out=out.npy`);
    return { buffer: find(`--save ${text}`, text.slice(0, at)), path: text.slice(at + 1) };
  });
  return { printed, saved };
}

/** A run and how it is to be shown. */
export interface Report {
  readonly device: string;
  readonly ptxPath: string;
  readonly prepared: PreparedRun;
  readonly run: WatchedRun;
  readonly wanted: WantedOutput;
  readonly top: number;
  readonly sort: SortKey;
  readonly traceSkip: number;
  /** The traced thread and its block, for a heading. */
  readonly traced: string;
}

/** Saves and prints what is wanted of a run as text. */
export function reportText(report: Report): void {
  const { run, wanted, prepared } = report;
  const text = new SourceText(report.ptxPath);
  const out = (part: string) => process.stdout.write(part);
  if (run.trace) out(formatTrace(run.trace, report.traced, text, report.traceSkip));
  if (run.profile) out(formatProfile(run.profile, { top: report.top, sort: report.sort, text }));
  if (!run.result) return;
  save(wanted, run.result);
  for (const { buffer, count } of wanted.printed) out(formatBuffer(buffer, contents(run.result, buffer), count));
  const { grid, block } = prepared.shape;
  const blocks = counted(grid[0] * grid[1] * grid[2], "block");
  const threads = counted(block[0] * block[1] * block[2], "thread");
  const summary = `${prepared.kernel.entry.name} on ${report.device}: ${blocks} of ${threads} in ${run.result.ms.toFixed(1)} ms`;
  process.stderr.write(`${dim(summary, process.stderr)}\n`);
}

/** The same as one JSON document. */
export function reportJson({ device, prepared, run, wanted }: Report): void {
  const { result, error, profile, trace } = run;
  if (result) save(wanted, result);
  const buffers = wanted.printed.map(({ buffer, count }) => {
    const { name, type, shape } = buffer;
    const values = result ? elementsOf(type, contents(result, buffer), count).map(jsonNumber) : undefined;
    return { name, type: type.name, shape, values };
  });
  const { grid, block } = prepared.shape;
  const document = {
    kernel: prepared.kernel.entry.name,
    device,
    grid,
    block,
    ms: result?.ms,
    error: error?.message,
    buffers,
    profile: profile && profileJson(profile),
    trace: trace && { count: trace.count, steps: trace.steps.map((step) => traceStepJson(step, trace)) },
  };
  process.stdout.write(`${JSON.stringify(document, null, 2)}\n`);
}

/** With the cost of each line, and lines of the source added up. */
function profileJson(profile: KernelProfile) {
  const withCost = <T extends { counts: Parameters<typeof cost>[0] }>(line: T) => ({
    ...line,
    cost: cost(line.counts),
  });
  const sourceLines = bySourceLine(profile).filter((line) => line.source !== undefined);
  return {
    ...profile,
    instructions: profile.instructions.map(withCost),
    sourceLines: sourceLines.map(withCost),
    cost: cost(profile.totals),
  };
}

function contents(result: RunResult, buffer: HostBuffer): Uint8Array {
  return result.contents.get(buffer.name)!;
}

function save({ saved }: WantedOutput, result: RunResult): void {
  for (const { buffer, path } of saved) saveBuffer(buffer, contents(result, buffer), path);
}

/** What JSON can hold: numbers beyond 2^53 and those that are not finite become text. */
function jsonNumber(value: number | bigint): number | string {
  if (typeof value === "number") return Number.isFinite(value) ? value : String(value);
  return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
}

function counted(count: number, noun: string): string {
  return `${count} ${count === 1 ? noun : `${noun}s`}`;
}
