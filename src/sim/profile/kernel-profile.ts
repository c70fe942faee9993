import type { Instruction, PtxModule } from "../ptx/ast.ts";
import { formatInstruction } from "../ptx/format.ts";
import { addCounts, type Counts, noCounts } from "./counts.ts";

/** What one instruction of a kernel cost. */
export interface InstructionProfile {
  readonly ptxLine: number;
  /** The instruction, as the text has it but for its layout. */
  readonly text: string;
  /** The line of the CUDA source, in PTX that was compiled with -lineinfo. */
  readonly source: SourceLine | undefined;
  readonly counts: Counts;
}

export interface SourceLine {
  readonly file: string;
  readonly line: number;
}

/** What the launches of one kernel cost, in all and by instruction. */
export interface KernelProfile {
  readonly kernel: string;
  /** The PTX file. */
  readonly module: string;
  readonly launches: number;
  readonly blocks: number;
  readonly warps: number;
  readonly totals: Counts;
  /** Those that warps came to, in the order of the text. */
  readonly instructions: readonly InstructionProfile[];
}

type Facts = Pick<KernelProfile, "kernel" | "launches" | "blocks" | "warps"> & {
  readonly module: Pick<PtxModule, "name" | "files">;
};

export function profileOf(facts: Facts, counted: readonly (readonly [Instruction, Counts])[]): KernelProfile {
  const totals = noCounts();
  const instructions = counted.map(([instruction, counts]): InstructionProfile => {
    addCounts(totals, counts);
    const { source, line: ptxLine } = instruction;
    const file = source && source.line > 0 ? facts.module.files.get(source.file) : undefined;
    return {
      ptxLine,
      text: formatInstruction(instruction),
      source: file === undefined ? undefined : { file, line: source!.line },
      counts,
    };
  });
  return { ...facts, module: facts.module.name, totals, instructions };
}

/** A profile's instructions added up by line of the CUDA source; what has none comes last. */
export function bySourceLine({ instructions }: KernelProfile): { source: SourceLine | undefined; counts: Counts }[] {
  const lines = new Map<string, { source: SourceLine | undefined; counts: Counts }>();
  for (const { source, counts } of instructions) {
    const key = source ? `${source.file}:${source.line}` : "";
    let line = lines.get(key);
    if (!line) {
      line = { source, counts: noCounts() };
      lines.set(key, line);
    }
    addCounts(line.counts, counts);
  }
  const order = (source: SourceLine | undefined) => source ?? { file: "\uffff", line: 0 };
  return [...lines.values()].sort((a, b) => {
    const [x, y] = [order(a.source), order(b.source)];
    return x.file === y.file ? x.line - y.line : x.file < y.file ? -1 : 1;
  });
}
