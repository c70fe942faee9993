import { f16ToNumber, numberToF16 } from "../../base/float.ts";

/** Every half as a float: matrices convert too many for arithmetic. */
let table: Float32Array | undefined;

export function fromHalf(bits: number): number {
  table ??= Float32Array.from({ length: 65536 }, (_, i) => f16ToNumber(i));
  return table[bits]!;
}

export const toHalf = numberToF16;
