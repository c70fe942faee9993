import type { PtxType } from "../ptx/types.ts";
import type { Opcode } from "../wasm/opcodes.ts";
import type { LaneEmitter } from "./lane.ts";

export function vectorLength(g: LaneEmitter): number {
  const vector = g.instruction.modifiers.find((m) => /^v[248]$/.test(m));
  return vector ? Number(vector.slice(1)) : 1;
}

/** Of the memory access itself; registers may be wider. */
export function loadOp(type: PtxType): Opcode {
  if (type.value !== "i32" || type.bytes === 4) return `${type.value}_load`;
  return `i32_load${8 * type.bytes}_${type.kind === "signed" ? "s" : "u"}` as Opcode;
}

export function storeOp(type: PtxType): Opcode {
  if (type.value !== "i32" || type.bytes === 4) return `${type.value}_store`;
  return `i32_store${8 * type.bytes}` as Opcode;
}
