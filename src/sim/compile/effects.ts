import type { Instruction, Operand, Register } from "../ptx/ast.ts";

/** Instructions that lanes do together: a lane waits for the others. */
const collectives = new Set([
  "shfl",
  "vote",
  "match",
  "redux",
  "activemask",
  "elect",
  "mma",
  "ldmatrix",
  "stmatrix",
  "movmatrix",
  "wmma",
  "bar",
  "barrier",
]);

export function isCollective({ name }: Instruction): boolean {
  return collectives.has(name);
}

/** Instructions whose first operand is not a result. */
const withoutResult = new Set([
  "st",
  "stmatrix",
  "red",
  "membar",
  "fence",
  "cp",
  "prefetch",
  "prefetchu",
  "discard",
  "applypriority",
  "trap",
  "brkpt",
  "nanosleep",
  "griddepcontrol",
  "pmevent",
]);

export function resultOperands(instruction: Instruction): number {
  const { name, modifiers } = instruction;
  if (withoutResult.has(name)) return 0;
  if (name === "bar" || name === "barrier") return modifiers.includes("red") ? 1 : 0;
  if (name === "wmma" && modifiers[0] === "store") return 0;
  return 1;
}

/** Registers that an instruction writes, and those that it reads. */
export function registersOf(instruction: Instruction): { written: Register[]; read: Register[] } {
  const written: Register[] = [];
  const read: Register[] = [];
  const results = resultOperands(instruction);
  instruction.operands.forEach((operand, i) => {
    collect(operand, i < results ? written : read, read);
  });
  if (instruction.guard) read.push(instruction.guard.register);
  return { written, read };
}

function collect(operand: Operand, into: Register[], addresses: Register[]): void {
  switch (operand.kind) {
    case "register":
      into.push(operand.register);
      return;
    case "address":
      if (operand.base && "register" in operand.base) addresses.push(operand.base.register);
      return;
    case "vector":
      for (const item of operand.items) collect(item, into, addresses);
      return;
    case "pair":
      collect(operand.first, into, addresses);
      collect(operand.second, into, addresses);
  }
}
