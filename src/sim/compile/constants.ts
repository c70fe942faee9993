import type { Instruction, Operand, Statement } from "../ptx/ast.ts";
import { ptxType } from "../ptx/types.ts";
import { registersOf, resultOperands } from "./effects.ts";

/**
 * Puts numbers in the place of registers that hold nothing else: those that one instruction of the whole kernel writes, an
 * unconditional `mov` of a number. Compilers name the distances and masks of shuffles so, and what is constant
 * need not be kept for lanes that wait. Registers in vectors stay: matrix instructions want them.
 */
export function foldConstants(body: readonly Statement[]): readonly Statement[] {
  const writes = new Map<number, number>();
  const values = new Map<number, Operand>();
  for (const statement of body) {
    if (!("instruction" in statement)) continue;
    const { instruction } = statement;
    for (const { index } of registersOf(instruction).written) writes.set(index, (writes.get(index) ?? 0) + 1);
    const [to, from] = instruction.operands;
    if (instruction.name !== "mov" || instruction.guard || to?.kind !== "register") continue;
    if (from?.kind === "integer" || from?.kind === "float") values.set(to.register.index, from);
  }
  for (const [index, count] of writes) if (count > 1) values.delete(index);
  if (values.size === 0) return body;

  const folded = (instruction: Instruction): Instruction => {
    const results = resultOperands(instruction);
    const floats = instruction.modifiers.some((m) => ptxType(m)?.kind === "float");
    const operands = instruction.operands.map((operand, i) => {
      if (i < results || operand.kind !== "register" || operand.negated) return operand;
      const value = values.get(operand.register.index);
      // A whole number that a float instruction takes from a register is the bits of a float.
      return value && !(floats && value.kind === "integer") ? value : operand;
    });
    return operands.every((operand, i) => operand === instruction.operands[i])
      ? instruction
      : { ...instruction, operands };
  };
  return body.map((statement) =>
    "instruction" in statement ? { instruction: folded(statement.instruction) } : statement,
  );
}
