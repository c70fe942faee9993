import type { Entry, Instruction, Operand, Register } from "../ptx/ast.ts";
import type { Code } from "../wasm/code.ts";
import { BitSet } from "./bits.ts";
import { isCollective, registersOf } from "./effects.ts";

/** What f32 instructions give for NaN, whatever the payload of their operands. */
export const canonicalNaN = 0x7fffffffn;

/** Instructions whose results of type f32 are canonical when NaN. */
const arithmetic = new Set(
  "add sub mul mad fma div rcp sqrt rsqrt ex2 lg2 sin cos tanh min max neg abs cvt".split(" "),
);

/** Turns any NaN of the f32 on the stack into the canonical one. */
export function canonicalize(c: Code): void {
  c.temp("f32", (x) => {
    c.tee(x).f32(canonicalNaN).get(x).get(x).op("f32_eq", "select");
  });
}

/**
 * Registers in which a NaN may have any payload: of type f32, and written by nothing but arithmetic, numbers and each
 * other. WebAssembly's arithmetic gives payloads of its own; making each result canonical would slow down every loop,
 * so it is done where bits are looked at. What collective instructions read, other than matrix products, must be exact.
 */
export function looseRegisters(entry: Entry): BitSet {
  const loose = new BitSet(entry.registers.length);
  const exact = new BitSet(entry.registers.length);
  const moves: { to: Register; from: Register }[] = [];
  for (const statement of entry.body) {
    if (!("instruction" in statement)) continue;
    const { instruction } = statement;
    const { written, read } = registersOf(instruction);
    if (isCollective(instruction) && instruction.name !== "mma" && instruction.name !== "wmma") {
      for (const { index } of read) exact.add(index);
    }
    for (const register of written) {
      const source = instruction.operands[1];
      if (register.type !== "f32") exact.add(register.index);
      else if (writesNumber(instruction) || (isMove(instruction) && isNumber(source))) loose.add(register.index);
      else if (isMove(instruction) && source?.kind === "register") moves.push({ to: register, from: source.register });
      else exact.add(register.index);
    }
  }
  for (const { to } of moves) loose.add(to.index);
  for (let changed = true; changed; ) {
    changed = false;
    for (const { to, from } of moves) {
      if (exact.has(to.index) || (!exact.has(from.index) && loose.has(from.index))) continue;
      exact.add(to.index);
      changed = true;
    }
  }
  for (const index of [...loose]) if (exact.has(index)) loose.words[index >>> 5]! &= ~(1 << (index & 31));
  return loose;
}

function writesNumber({ name, modifiers }: Instruction): boolean {
  if (!arithmetic.has(name)) return false;
  // From f64 a NaN keeps bits of its payload.
  if (name === "cvt") return modifiers.at(-2) === "f32" && modifiers.at(-1) !== "f64";
  return modifiers.at(-1) === "f32";
}

function isMove({ name, modifiers }: Instruction): boolean {
  return name === "mov" && modifiers.at(-1) === "f32";
}

function isNumber(operand: Operand | undefined): boolean {
  if (operand?.kind === "integer") return true;
  if (operand?.kind !== "float") return false;
  const [infinity, magnitude] =
    operand.width === 32
      ? [0x7f800000n, operand.bits & 0x7fffffffn]
      : [0x7ffn << 52n, operand.bits & ((1n << 63n) - 1n)];
  return magnitude <= infinity;
}
