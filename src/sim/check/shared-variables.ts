import { dynamicSharedOffset } from "../compile/kernel.ts";
import type { Entry, Operand, Variable } from "../ptx/ast.ts";

/** A range of a block's shared memory that the kernel declared. */
export interface SharedRange {
  readonly name: string;
  readonly offset: number;
  readonly bytes: number;
}

/** The shared memory of a block: the kernel's variables in order, and dynamic shared memory behind them. */
export function sharedRanges(entry: Entry, dynamicBytes: number): SharedRange[] {
  const found = new Map<string, SharedRange>();
  const add = ({ space, name, offset, bytes }: Variable): void => {
    if (space === "shared" && bytes > 0) found.set(name, { name, offset, bytes });
  };
  for (const statement of entry.body) {
    if ("instruction" in statement) for (const operand of statement.instruction.operands) variableOf(operand, add);
  }
  const ranges = [...found.values()].sort((a, b) => a.offset - b.offset);
  if (dynamicBytes > 0) {
    ranges.push({ name: "dynamic shared memory", offset: dynamicSharedOffset(entry), bytes: dynamicBytes });
  }
  return ranges;
}

function variableOf(operand: Operand, add: (variable: Variable) => void): void {
  if (operand.kind === "symbol") add(operand.variable);
  else if (operand.kind === "address" && operand.base && "variable" in operand.base) add(operand.base.variable);
}

/** `4 bytes into tile (128 bytes)`: of the range that is nearest. */
export function describeShared(ranges: readonly SharedRange[], offset: number): string {
  let best: SharedRange | undefined;
  let distance = Number.POSITIVE_INFINITY;
  for (const range of ranges) {
    const away = Math.max(range.offset - offset, offset - (range.offset + range.bytes - 1), 0);
    if (away < distance) [best, distance] = [range, away];
  }
  if (!best) return "in a block without shared memory";
  return `${describeDistance(offset - best.offset, best.bytes)} ${best.name} (${best.bytes} bytes)`;
}

/** Where something lies that begins `away` bytes behind the begin of a range: `3 bytes before`, `4 bytes into`, `just past the end of`. */
export function describeDistance(away: number, bytes: number): string {
  if (away < 0) return `${-away} bytes before`;
  if (away < bytes) return `${away} bytes into`;
  return away === bytes ? "just past the end of" : `${away - bytes} bytes past the end of`;
}
