import { fromHalf, toHalf } from "./half.ts";
import type { LinearMemory } from "./views.ts";

/** Types of a matrix product's sums: two of f16 lie in a register. */
export const accumulatorNames = ["f32", "f16", "s32"] as const;
export type AccumulatorName = (typeof accumulatorNames)[number];

export function isAccumulator(name: string | undefined): name is AccumulatorName {
  return accumulatorNames.some((known) => known === name);
}

/** Number `i` of a lane's sums, which are in the registers at `homes`. */
export function readSum(
  { f32, i32, u16 }: LinearMemory,
  name: AccumulatorName,
  warp: number,
  homes: readonly number[],
  lane: number,
  i: number,
): number {
  if (name === "f16") return fromHalf(u16[((warp + homes[i >>> 1]!) >>> 1) + 2 * lane + (i & 1)]!);
  const at = ((warp + homes[i]!) >>> 2) + lane;
  return name === "f32" ? f32[at]! : i32[at]!;
}

/** The same, written: rounded to its type, NaN as the canonical one; integers wrap around unless they saturate. */
export function writeSum(
  { f32, i32, u16 }: LinearMemory,
  name: AccumulatorName,
  warp: number,
  homes: readonly number[],
  lane: number,
  i: number,
  sum: number,
  saturates: boolean,
): void {
  if (name === "f16") {
    u16[((warp + homes[i >>> 1]!) >>> 1) + 2 * lane + (i & 1)] = toHalf(sum);
    return;
  }
  const to = ((warp + homes[i]!) >>> 2) + lane;
  if (name === "s32") i32[to] = saturates ? Math.max(-(2 ** 31), Math.min(2 ** 31 - 1, sum)) : sum;
  else if (Number.isNaN(sum)) i32[to] = 0x7fffffff;
  else f32[to] = sum;
}
