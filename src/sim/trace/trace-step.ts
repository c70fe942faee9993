import type { Instruction, PtxModule } from "../ptx/ast.ts";

/** A register and what it held: `bits` as an unsigned number of the register's width. */
export interface RegisterValue {
  readonly register: string;
  /** Without the dot: `f32`, `b64`, `pred`. */
  readonly type: string;
  readonly bits: bigint;
}

/** What an instruction did to memory. Addresses of `global` are the device's own, those of the others count from the begin of the space. */
export interface TracedAccess {
  readonly kind: "reads" | "writes" | "updates";
  readonly space: "global" | "shared" | "local";
  readonly address: bigint;
  readonly bytes: number;
}

/** One instruction that a thread came to. */
export interface TraceStep {
  readonly instruction: Instruction;
  /** False for a guarded one whose predicate did not hold. A guarded branch is executed either way. */
  readonly executed: boolean;
  /** Registers that it read, its predicate last, and what it left in those that it writes. */
  readonly operands: readonly RegisterValue[];
  readonly results: readonly RegisterValue[];
  readonly accesses: readonly TracedAccess[];
}

/** Where a step's instruction comes from, `transpose.cu:14`; undefined in PTX that was compiled without -lineinfo. */
export function sourceOf(
  { source }: Instruction,
  { files }: Pick<PtxModule, "files">,
): { readonly file: string; readonly line: number } | undefined {
  const file = source && source.line > 0 ? files.get(source.file) : undefined;
  return file === undefined ? undefined : { file, line: source!.line };
}
