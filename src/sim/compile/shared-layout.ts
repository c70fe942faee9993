import type { Entry, Operand, Variable } from "../ptx/ast.ts";

/** A range of a block's shared memory that the kernel declared. */
export interface SharedRange {
  readonly name: string;
  readonly offset: number;
  readonly bytes: number;
}

/** Where a kernel's variables lie in shared memory. */
export interface SharedLayout {
  readonly ranges: readonly SharedRange[];
  /** Where dynamic shared memory begins: behind them. */
  readonly dynamicOffset: number;
}

/** As the parser placed them. */
export function sharedLayout(entry: Entry): SharedLayout {
  return { ranges: sharedVariables(entry).map(asRange), dynamicOffset: roundUp(entry.sharedBytes, 16) };
}

/** With room between them that belongs to nobody, so that running out of one is not being in the next. */
export function guardedSharedLayout(entry: Entry): SharedLayout {
  let end = 0;
  const ranges = sharedVariables(entry).map((variable) => {
    const offset = roundUp(end, Math.max(variable.align, 16));
    end = offset + variable.bytes + guardBytes;
    return { ...asRange(variable), offset };
  });
  return { ranges, dynamicOffset: roundUp(end, guardBytes) };
}
const guardBytes = 256;

/** Of those that the kernel uses, in order. */
function sharedVariables(entry: Entry): Variable[] {
  const found = new Map<string, Variable>();
  for (const statement of entry.body) {
    if (!("instruction" in statement)) continue;
    for (const operand of statement.instruction.operands) {
      const variable = variableOf(operand);
      if (variable?.space === "shared" && variable.bytes > 0) found.set(variable.name, variable);
    }
  }
  return [...found.values()].sort((a, b) => a.offset - b.offset);
}

function variableOf(operand: Operand): Variable | undefined {
  if (operand.kind === "symbol") return operand.variable;
  return operand.kind === "address" && operand.base && "variable" in operand.base ? operand.base.variable : undefined;
}

function asRange({ name, offset, bytes }: Variable): SharedRange {
  return { name, offset, bytes };
}

function roundUp(bytes: number, step: number): number {
  return Math.ceil(bytes / step) * step;
}
