import { ArgumentError } from "../../base/errors.ts";
import { elementCount } from "../../base/shape.ts";
import type { Device } from "../../driver/device.ts";
import { dim } from "../terminal.ts";
import { elementsOf, formatBuffer, type HostBuffer, saveBuffer } from "./host-buffer.ts";
import type { PreparedRun, RunResult } from "./kernel-run.ts";

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

/** Saves and prints what is wanted of a run. */
export function report(run: {
  readonly device: Device;
  readonly prepared: PreparedRun;
  readonly result: RunResult;
  readonly wanted: WantedOutput;
  readonly json: boolean;
}): void {
  const { device, prepared, result, wanted, json } = run;
  const contents = (buffer: HostBuffer) => result.contents.get(buffer.name)!;
  for (const { buffer, path } of wanted.saved) saveBuffer(buffer, contents(buffer), path);
  const { entry } = prepared.kernel;
  const { grid, block } = prepared.shape;
  if (json) {
    const buffers = wanted.printed.map(({ buffer, count }) => {
      const { name, type, shape } = buffer;
      return { name, type: type.name, shape, values: elementsOf(type, contents(buffer), count).map(jsonNumber) };
    });
    const document = { kernel: entry.name, device: device.name, grid, block, ms: result.ms, buffers };
    process.stdout.write(`${JSON.stringify(document, null, 2)}\n`);
    return;
  }
  for (const { buffer, count } of wanted.printed) {
    process.stdout.write(formatBuffer(buffer, contents(buffer), count));
  }
  const blocks = grid[0] * grid[1] * grid[2];
  const threads = block[0] * block[1] * block[2];
  process.stderr.write(
    `${dim(`${entry.name} on ${device.name}: ${blocks} ${plural("block", blocks)} of ${threads} ${plural("thread", threads)} in ${result.ms.toFixed(1)} ms`, process.stderr)}\n`,
  );
}

/** What JSON can hold: numbers beyond 2^53 and those that are not finite become text. */
function jsonNumber(value: number | bigint): number | string {
  if (typeof value === "number") return Number.isFinite(value) ? value : String(value);
  return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
}

function plural(noun: string, count: number): string {
  return count === 1 ? noun : `${noun}s`;
}
