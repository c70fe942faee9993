import type { Instruction, Operand } from "./ast.ts";
import { bitsToFloat } from "./literals.ts";

/** An instruction as PTX text, without the semicolon: `@!%p1 ld.global.f32 %f1, [%rd1+4]`. */
export function formatInstruction({ guard, text, operands }: Instruction): string {
  const predicate = guard ? `@${guard.negated ? "!" : ""}${guard.register.name} ` : "";
  return `${predicate}${text}${operands.length > 0 ? " " : ""}${operands.map(formatOperand).join(", ")}`;
}

export function formatOperand(operand: Operand): string {
  switch (operand.kind) {
    case "register":
      return `${operand.negated ? "!" : ""}${operand.register.name}`;
    case "integer":
      return String(operand.value);
    case "float":
      return formatFloat(operand.bits, operand.width);
    case "special":
      return operand.name;
    case "symbol":
      return withOffset(operand.variable.name, operand.offset);
    case "address": {
      const { base, offset } = operand;
      if (!base) return `[${offset}]`;
      return `[${withOffset("register" in base ? base.register.name : base.variable.name, offset)}]`;
    }
    case "vector":
      return `{${operand.items.map(formatOperand).join(", ")}}`;
    case "pair":
      return `${formatOperand(operand.first)}|${formatOperand(operand.second)}`;
    case "sink":
      return "_";
    case "label":
      return operand.name;
  }
}

function withOffset(name: string, offset: number): string {
  return offset === 0 ? name : `${name}${offset < 0 ? "" : "+"}${offset}`;
}

/** PTX writes floats as their bits, which nobody reads; whole and short numbers are shown as such. */
function formatFloat(bits: bigint, width: 32 | 64): string {
  const value = bitsToFloat(bits, width);
  const short = String(value);
  if (short.length <= 8 && Number.isFinite(value)) return Number.isInteger(value) ? `${short}.0` : short;
  return `0${width === 32 ? "f" : "d"}${bits
    .toString(16)
    .toUpperCase()
    .padStart(width / 4, "0")}`;
}
