/** Matrix operands as numbers, from what the lanes of a warp hold: the layouts of the PTX ISA, "Matrix Fragments for mma". */
import { bf16ToNumber, f16ToNumber } from "../../../src/base/float.ts";

const scratch = new DataView(new ArrayBuffer(8));

function fromE(bits: number, mantissa: number): number {
  const exponent = (bits & 127) >>> mantissa;
  const fraction = bits & ((1 << mantissa) - 1);
  const bias = mantissa === 3 ? 7 : 15;
  const special = mantissa === 3 ? (bits & 127) === 127 : exponent === 31;
  const magnitude = special
    ? mantissa === 2 && fraction === 0
      ? Number.POSITIVE_INFINITY
      : Number.NaN
    : exponent === 0
      ? fraction * 2 ** (1 - bias - mantissa)
      : (1 + fraction / 2 ** mantissa) * 2 ** (exponent - bias);
  return bits & 128 ? -magnitude : magnitude;
}

/** Elements of a matrix by type: their bits, and the value of such bits. tf32 has 10 bits of mantissa; the rest is not read. */
export const elements = {
  f16: { bits: 16, value: f16ToNumber },
  bf16: { bits: 16, value: bf16ToNumber },
  tf32: {
    bits: 32,
    value: (bits: number) => {
      scratch.setInt32(0, bits & ~0x1fff);
      return scratch.getFloat32(0);
    },
  },
  e4m3: { bits: 8, value: (bits: number) => fromE(bits, 3) },
  e5m2: { bits: 8, value: (bits: number) => fromE(bits, 2) },
} as const;
export type ElementName = keyof typeof elements;

/** Element (row, column) of an operand: which lane holds it, in which register, at which bit. */
export interface Place {
  readonly lane: number;
  readonly register: number;
  readonly part: number;
}

export interface Shape {
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** A [M, K] of mma.m16n8 and m8n8: with n elements a register, a lane holds n of a row, then 8 rows below, then further right. */
export function placeOfA({ M }: Shape, perRegister: number, row: number, k: number): Place {
  const group = Math.floor(k / (4 * perRegister));
  return {
    lane: 4 * (row % 8) + (Math.floor(k / perRegister) % 4),
    register: (M / 8) * group + Math.floor(row / 8),
    part: k % perRegister,
  };
}

/** B [K, N], the same by columns. */
export function placeOfB(perRegister: number, k: number, column: number): Place {
  return {
    lane: 4 * column + (Math.floor(k / perRegister) % 4),
    register: Math.floor(k / (4 * perRegister)),
    part: k % perRegister,
  };
}

/** C and D [M, N]: pairs of a row; two registers, or one of two halves. */
export function placeOfC(row: number, column: number, isPacked: boolean): Place {
  const band = Math.floor(row / 8);
  const which = column % 2;
  return {
    lane: 4 * (row % 8) + Math.floor(column / 2),
    register: isPacked ? band : 2 * band + which,
    part: isPacked ? which : 0,
  };
}

/** mma.m8n8k4 of halves: four products, each of eight lanes: 0-3 and 16-19, 4-7 and 20-23, and so on. */
export function quarterLane(product: number, high: boolean, i: number): number {
  return 4 * product + i + (high ? 16 : 0);
}
