/** Operands for instruction tests: every pair (or triple) of corner cases, then random bits. Seeded. */
import { random } from "../support/numerics.ts";

const corners32 = [
  0, 1, 2, 3, 7, 31, 32, 33, 63, 64, 255, 256, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xfffffffe,
  0xffffffff, 0x12345678,
];
const cornersF32 = [
  0, 0x80000000, 1, 0x80000001, 0x007fffff, 0x00800000, 0x80800000, 0x3f800000, 0xbf800000, 0x3f800001, 0x40000000,
  0x3f000000, 0x3effffff, 0x4b000000, 0x4b800001, 0x4f000000, 0xcf000000, 0x4f800000, 0x5f000000, 0x7f7fffff,
  0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001,
];

/** Tuples of `arity` 32-bit patterns, in one array per operand. */
export function tuples32(arity: number, isFloat: boolean, seed: number): Uint32Array[] {
  const corners = isFloat ? cornersF32 : corners32;
  const rows: number[][] = [];
  if (arity === 1) rows.push(...corners.map((a) => [a]));
  else for (const a of corners) for (const b of corners) rows.push([a, b]);
  const next = random(seed);
  const word = () => Math.floor(next() * 2 ** 32);
  // Floats of similar size as well: their sums cancel.
  const near = () => (word() & 0x80ffffff) | 0x3f000000;
  if (arity === 3) {
    for (const row of rows) row.push(corners[Math.floor(next() * corners.length)]!);
    for (const c of corners) for (let i = 0; i < 8; i++) rows.push([near() >>> 0, near() >>> 0, c]);
  }
  for (let i = 0; i < 600; i++) rows.push(Array.from({ length: arity }, isFloat && i % 2 ? () => near() >>> 0 : word));
  return Array.from({ length: arity }, (_, i) => Uint32Array.from(rows, (row) => row[i]!));
}

const corners64 = [0n, 1n, 2n, 31n, 63n, 64n, 65n, 0x7fffffffn, 0x80000000n, 0xffffffffn, 0x100000000n].flatMap((v) => [
  v,
  BigInt.asUintN(64, -v),
  BigInt.asUintN(64, ~v),
  (1n << 63n) - v,
]);

export function tuples64(arity: number, seed: number): BigUint64Array[] {
  const rows: bigint[][] = [];
  for (const a of corners64) {
    for (const b of corners64) rows.push([a, b, corners64[rows.length % corners64.length]!].slice(0, arity));
    if (arity === 1) rows.splice(-corners64.length + 1);
  }
  const next = random(seed);
  const word = () => (BigInt(Math.floor(next() * 2 ** 32)) << 32n) | BigInt(Math.floor(next() * 2 ** 32));
  for (let i = 0; i < 400; i++) rows.push(Array.from({ length: arity }, word));
  return Array.from({ length: arity }, (_, i) => BigUint64Array.from(rows, (row) => row[i]!));
}
