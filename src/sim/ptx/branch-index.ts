import type { Instruction, Operand, Register, Statement } from "./ast.ts";

/**
 * brx.idx as comparisons and branches, one for each target. PTX leaves other indices undefined; here the last target takes
 * them. New predicates are added to `registers`.
 */
export function branchByIndex(
  instruction: Instruction,
  index: Operand,
  targets: readonly Operand[],
  registers: Register[],
): Statement[] {
  const { guard } = instruction;
  const statements: Statement[] = [];
  const push = (
    name: string,
    modifiers: readonly string[],
    operands: readonly Operand[],
    of: Instruction["guard"],
  ): void => {
    statements.push({ instruction: { ...instruction, name, modifiers, operands, guard: of } });
  };
  const after = `${instruction.text}@${registers.length}`;
  if (guard) push("bra", [], [{ kind: "label", name: after }], { ...guard, negated: !guard.negated });
  for (const [i, target] of targets.slice(0, -1).entries()) {
    const register = { name: `%target${registers.length}`, type: "pred", index: registers.length };
    registers.push(register);
    const number = { kind: "integer", value: BigInt(i) } as const;
    push("setp", ["eq", "u32"], [{ kind: "register", register }, index, number], undefined);
    push("bra", [], [target], { register, negated: false });
  }
  push("bra", ["uni"], targets.slice(-1), undefined);
  if (guard) statements.push({ label: after });
  return statements;
}
