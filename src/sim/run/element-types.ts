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

/** A float of 8 bits: e4m3 has no infinity, and its NaN is all ones; e5m2 is the upper byte of a half. */
function eightBits(bits: number, mantissa: 2 | 3): number {
  if (mantissa === 2) return fromHalf(bits << 8);
  const magnitude = bits & 127;
  if (magnitude === 127) return Number.NaN;
  const exponent = magnitude >>> 3;
  const value = exponent === 0 ? magnitude * 2 ** -9 : (8 + (magnitude & 7)) * 2 ** (exponent - 10);
  return bits & 128 ? -value : value;
}

export const elementTypes: Readonly<Record<string, ElementType>> = {
  f16: { bits: 16, read: (word, i) => fromHalf((word >>> (16 * i)) & 0xffff) },
  bf16: { bits: 16, read: (word, i) => asFloat(i === 0 ? word << 16 : word & 0xffff0000) },
  e4m3: { bits: 8, read: (word, i) => eightBits((word >>> (8 * i)) & 255, 3) },
  e5m2: { bits: 8, read: (word, i) => eightBits((word >>> (8 * i)) & 255, 2) },
  // The lowest 13 bits take no part.
  tf32: { bits: 32, read: (word) => asFloat(word & ~0x1fff) },
  s8: { bits: 8, read: (word, i) => (word << (24 - 8 * i)) >> 24 },
  u8: { bits: 8, read: (word, i) => (word >>> (8 * i)) & 255 },
  s4: { bits: 4, read: (word, i) => (word << (28 - 4 * i)) >> 28 },
  u4: { bits: 4, read: (word, i) => (word >>> (4 * i)) & 15 },
  b1: { bits: 1, read: (word, i) => (word >>> i) & 1 },
};
