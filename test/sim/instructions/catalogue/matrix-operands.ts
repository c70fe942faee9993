/** What the cases of matrix instructions share: sources of their operands, and how registers are listed. */
import type { ElementName } from "../fragments.ts";
import type { Source } from "../sources.ts";

export type Accumulator = "f32" | "f16";

export const normals: Record<ElementName, Source> = {
  f16: "normalF16x2",
  bf16: "normalBf16x2",
  tf32: "normalTf32",
  e4m3: "normalE4m3x4",
  e5m2: "normalE5m2x4",
};
/** Whole numbers, so that every order of the sums is exact, with an infinity or NaN here and there. */
export const smalls: Record<ElementName, Source> = {
  f16: "smallF16x2",
  bf16: "smallBf16x2",
  tf32: "smallTf32",
  e4m3: "smallE4m3x4",
  e5m2: "smallE5m2x4",
};
export const accumulatorSource = (type: Accumulator, small: boolean): Source =>
  type === "f32" ? (small ? "smallF32" : "normalF32") : small ? "smallF16x2" : "normalF16x2";

export function list(prefix: string, from: number, count: number): string {
  return `{${Array.from({ length: count }, (_, i) => `%${prefix}${from + i}`).join(", ")}}`;
}

/** D, A, B, C in braces: inputs are numbered through. */
export function mmaCode(text: string, counts: { a: number; b: number; c: number; d: number }): string {
  const { a, b, c, d } = counts;
  return `${text} ${list("o", 0, d)}, ${list("i", 0, a)}, ${list("i", a, b)}, ${list("i", a + b, c)};`;
}

export function repeat<T>(value: T, count: number): T[] {
  return Array<T>(count).fill(value);
}

export const layouts = ["row", "col"].flatMap((a) => ["row", "col"].map((b) => [a, b] as const));

/** `.shared` bytes of a matrix per operand, and the address of each. */
export interface Tile {
  readonly words: number;
  readonly offset: number;
}

/** Lanes write their registers of an operand side by side to shared memory. */
export function toShared(first: number, { words, offset }: Tile): string {
  const stores = Array.from({ length: words }, (_, i) => `st.shared.b32 [%y+${offset + 4 * i}], %i${first + i};`);
  return `mul.wide.u32 %y, %lane, ${4 * words}; add.u64 %y, %y, %x; ${stores.join(" ")}`;
}
