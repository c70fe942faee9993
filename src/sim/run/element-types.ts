import { fromHalf } from "./half.ts";

/** How a matrix operand packs its elements in 32-bit registers. */
export interface ElementType {
  readonly bits: number;
  /** Element `i` of a 32-bit word. */
  readonly read: (word: number, i: number) => number;
}

const scratch = new DataView(new ArrayBuffer(4));
function asFloat(bits: number): number {
  scratch.setInt32(0, bits);
  return scratch.getFloat32(0);
}

export const elementTypes: Readonly<Record<string, ElementType>> = {
  f16: { bits: 16, read: (word, i) => fromHalf((word >>> (16 * i)) & 0xffff) },
  bf16: { bits: 16, read: (word, i) => asFloat(i === 0 ? word << 16 : word & 0xffff0000) },
  // The lowest 13 bits take no part.
  tf32: { bits: 32, read: (word) => asFloat(word & ~0x1fff) },
  s8: { bits: 8, read: (word, i) => (word << (24 - 8 * i)) >> 24 },
  u8: { bits: 8, read: (word, i) => (word >>> (8 * i)) & 255 },
  s4: { bits: 4, read: (word, i) => (word << (28 - 4 * i)) >> 28 },
  u4: { bits: 4, read: (word, i) => (word >>> (4 * i)) & 15 },
};
