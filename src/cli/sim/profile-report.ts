import { type Counts, cost } from "../../sim/profile/counts.ts";
import { bySourceLine, type KernelProfile } from "../../sim/profile/kernel-profile.ts";
import { sectorBytes } from "../../sim/profile/sectors.ts";
import { bold, formatBytes } from "../terminal.ts";
import type { SourceText } from "./source-text.ts";

/** What a table of lines may be sorted by. */
export const sortKeys = {
  cost,
  instructions: (c: Counts) => c.warpInstructions,
  sectors: sectorsOf,
  passes: (c: Counts) => c.sharedPasses,
  conflicts: (c: Counts) => c.sharedPasses - c.idealPasses,
  atomics: (c: Counts) => c.atomics,
} as const;
export type SortKey = keyof typeof sortKeys | "line";

function sectorsOf(counts: Counts): number {
  return counts.readSectors + counts.writtenSectors;
}

/** Totals, then the lines that cost most: of the source where the PTX names it, and of the PTX. `top` lines each; 0 for all. */
export function formatProfile(
  profile: KernelProfile,
  options: { readonly top: number; readonly sort: SortKey; readonly text: SourceText },
): string {
  const { totals } = profile;
  const lines = [bold(`${profile.kernel}: ${number(profile.blocks)} blocks, ${number(profile.warps)} warps`)];
  for (const [label, text] of summary(totals)) lines.push(`  ${label.padEnd(22)}${text}`);
  const source = bySourceLine(profile).filter((line) => line.source !== undefined);
  if (source.length > 0) {
    const rows = source.map(({ source: at, counts }) => ({
      counts,
      place: `${at!.file}:${at!.line}`,
      text: options.text.line(at!.file, at!.line) ?? "",
    }));
    lines.push("", ...table("source line", rows, totals, options));
  }
  const rows = profile.instructions.map(({ ptxLine, text, counts }) => ({ counts, place: String(ptxLine), text }));
  lines.push("", ...table("PTX line", rows, totals, options));
  return `${lines.join("\n")}\n`;
}

function summary(c: Counts): [string, string][] {
  const rows: [string, string][] = [];
  const lanes = (c.activeLanes / Math.max(1, c.warpInstructions)).toFixed(1);
  rows.push(["warp instructions", `${number(c.warpInstructions)}, ${lanes} of 32 lanes active`]);
  const sectors = sectorsOf(c);
  const moved = (count: number) => `${number(count)} sectors (${formatBytes(count * sectorBytes)})`;
  if (sectors > 0) {
    rows.push(["global memory read", `${formatBytes(c.readBytes)} asked for, ${moved(c.readSectors)}`]);
    rows.push(["global memory written", `${formatBytes(c.writtenBytes)} asked for, ${moved(c.writtenSectors)}`]);
    const ideal = `${number(c.idealSectors)} of ${number(sectors)} sectors would do`;
    rows.push(["coalescing", `${percent(c.idealSectors / sectors)}: ${ideal}`]);
  }
  if (c.sharedPasses > 0) {
    const conflicts = c.sharedPasses - c.idealPasses;
    rows.push([
      "shared memory",
      `${formatBytes(c.sharedBytes)} in ${number(c.sharedPasses)} passes, ${number(conflicts)} of them for bank conflicts`,
    ]);
  }
  if (c.localBytes > 0) rows.push(["local memory", formatBytes(c.localBytes)]);
  if (c.atomics > 0) {
    rows.push(["atomics", `${number(c.atomics)}, ${number(c.atomicConflicts)} at an address of another lane`]);
  }
  return rows;
}

interface Row {
  readonly counts: Counts;
  readonly place: string;
  readonly text: string;
}

function table(
  title: string,
  rows: readonly Row[],
  totals: Counts,
  { top, sort }: { readonly top: number; readonly sort: SortKey },
): string[] {
  const total = Math.max(1, cost(totals));
  const sorted = sort === "line" ? rows : [...rows].sort((a, b) => sortKeys[sort](b.counts) - sortKeys[sort](a.counts));
  const shown = top === 0 ? sorted : sorted.slice(0, top);
  const cells = shown.map(({ counts: c, place, text }) => [
    percent(cost(c) / total),
    number(c.warpInstructions),
    (c.laneInstructions / Math.max(1, c.warpInstructions)).toFixed(1),
    orNothing(sectorsOf(c)),
    orNothing(c.idealSectors),
    orNothing(c.sharedPasses),
    orNothing(c.idealPasses),
    place,
    text,
  ]);
  const heads = ["cost", "instr", "lanes", "sectors", "ideal", "passes", "ideal", title, ""];
  const widths = heads.map((head, i) => Math.max(head.length, ...cells.map((row) => row[i]!.length)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, i) => (i === row.length - 1 ? cell : cell.padStart(widths[i]!)))
      .join("  ")
      .trimEnd();
  const rest = sorted.length - shown.length;
  return [line(heads), ...cells.map(line), ...(rest > 0 ? [`… ${rest} more lines; --top 0 shows all`] : [])];
}

/** 1234567 as 1,234,567, whatever the machine's language. */
function number(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ",");
}

function orNothing(value: number): string {
  return value === 0 ? "" : number(value);
}

function percent(share: number): string {
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}
