import type { Instruction } from "../ptx/ast.ts";

/** How an instrumented access touches memory, as the compiled code passes it: with its bytes in one number. */
export const accessKinds = { read: 0, write: 1, atomic: 2, asyncWrite: 3 } as const;
export type AccessKind = keyof typeof accessKinds;

export const accessKindShift = 8;
export const accessBytesMask = (1 << accessKindShift) - 1;

export function packAccess(kind: AccessKind, bytes: number): number {
  return (accessKinds[kind] << accessKindShift) | bytes;
}

/** What an access instruction moves for one lane. */
export function accessBytes(instruction: Instruction): number {
  if (instruction.name === "cp") return Number((instruction.operands[2] as { value: bigint }).value);
  const vector = instruction.modifiers.find((m) => /^v[248]$/.test(m));
  const type = instruction.modifiers.findLast((m) => /^[busf]\d+$|^bf?16/.test(m)) ?? "b32";
  const bits = Number(/(\d+)(x2)?$/.exec(type)![1]) * (type.endsWith("x2") ? 2 : 1);
  return (bits / 8) * (vector ? Number(vector.slice(1)) : 1);
}
