import type { Operand } from "../ptx/ast.ts";
import type { PtxType } from "../ptx/types.ts";
import type { Opcode } from "../wasm/opcodes.ts";
import type { LaneEmitter } from "./lane.ts";

export type Rounding = "rn" | "rz" | "rm" | "rp";

export function roundingOf(g: LaneEmitter): Rounding {
  return (["rz", "rm", "rp"] as const).find((mode) => g.has(mode)) ?? "rn";
}

/** The number by which a rounding is passed to JavaScript: see run/float64.ts. */
export const roundingNumber = { rn: 0, rz: 1, rm: 2, rp: 3 } as const satisfies Record<Rounding, number>;

/** Flushes a subnormal f32 on the stack to zero of its sign. */
export function flush(g: LaneEmitter): void {
  const { c } = g;
  c.temp("f32", (x) => {
    c.set(x).f32(0n).get(x).op("f32_copysign").get(x).get(x).op("f32_abs").f32(0x00800000n).op("f32_lt", "select");
  });
}

/** Flushes the double on the stack to zero of its sign where it is below the least normal number of a narrower type. */
export function flushBelow(g: LaneEmitter, smallest: number): void {
  const { c } = g;
  c.temp("f64", (x) => {
    c.set(x).f64Value(0).get(x).op("f64_copysign").get(x).get(x).op("f64_abs").f64Value(smallest);
    c.op("f64_lt", "select");
  });
}

export const smallestNormal = { f32: 2 ** -126, f16: 2 ** -14 } as const;
const precision = { f32: 24, f16: 11 } as const;

/**
 * Flushes what is subnormal in the narrower type before the double on the stack, exact or rounded to odd, is rounded to it.
 * As hardware decides that, a number just below the least normal one counts as that if rounding made it so were exponents
 * without bound.
 */
export function flushTiny(g: LaneEmitter, type: keyof typeof precision, mode: Rounding): void {
  const { c } = g;
  const smallest = smallestNormal[type];
  const nearest = smallest * (1 - 2 ** -(precision[type] + 1));
  // At and above this double, rounding away from zero gives the least normal number.
  const away = smallest * (1 - 2 ** -precision[type]) * (1 + 2 ** -52);
  c.temp("f64", (x) => {
    c.set(x).f64Value(0).get(x).op("f64_copysign").get(x).get(x).op("f64_abs");
    if (mode === "rn") c.f64Value(nearest);
    else if (mode === "rz") c.f64Value(smallest);
    else {
      c.f64Value(away).f64Value(smallest).get(x).f64Value(0);
      c.op(mode === "rm" ? "f64_lt" : "f64_gt", "select");
    }
    c.op("f64_lt", "select");
  });
}

/** Clamps the value on the stack to [0, 1]; NaN becomes 0. */
export function saturateUnit(g: LaneEmitter, type: PtxType): void {
  const { c } = g;
  c.temp(type.value, (x) => {
    const constant = (one: boolean) => (type.value === "f64" ? c.f64Value(one ? 1 : 0) : c.f32(one ? 0x3f800000n : 0n));
    c.set(x).get(x);
    constant(true).op(`${type.value}_min` as Opcode);
    constant(false).get(x);
    constant(false).op(`${type.value}_gt` as Opcode, "select");
  });
}

/** Makes negative numbers and -0 of the f32 on the stack +0; NaN stays. */
export function rectify(g: LaneEmitter): void {
  const { c } = g;
  c.temp("f32", (x) => c.set(x).get(x).f32(0n).get(x).f32(0n).op("f32_le", "i32_eqz", "select"));
}

/** Rounds the double on the stack, exact or rounded to odd, to float. */
export function demote(g: LaneEmitter, mode: Rounding): void {
  const { c } = g;
  if (mode === "rn") c.op("f32_demote_f64");
  else if (mode === "rm") g.call("roundDown");
  else if (mode === "rp") {
    c.op("f64_neg");
    g.call("roundDown").op("f32_neg");
  } else {
    // Towards zero: down, on the magnitude.
    c.temp("f64", (x) => {
      c.tee(x).op("f64_abs");
      g.call("roundDown").get(x).op("f32_demote_f64", "f32_copysign");
    });
  }
}

/**
 * Adds what `pushAddend` puts on the stack to the double there, to odd. Rounding down, opposite zeros and numbers that
 * cancel give -0: that sum is formed of the negated addends.
 */
export function sumToOdd(g: LaneEmitter, mode: Rounding, pushAddend: () => void): void {
  const { c } = g;
  if (mode === "rm") c.op("f64_neg");
  pushAddend();
  if (mode === "rm") c.op("f64_neg");
  g.call("oddAdd");
  if (mode === "rm") c.op("f64_neg");
}

/** Puts a float operand on the stack, flushed where the instruction says so. */
export function pushFloat(g: LaneEmitter, operand: Operand, type: PtxType): void {
  g.pushNumber(operand, type);
  if (type.value === "f32" && g.has("ftz")) flush(g);
}

export function popFloat(g: LaneEmitter, type: PtxType): void {
  if (type.value === "f32" && g.has("ftz")) flush(g);
  if (g.has("sat")) saturateUnit(g, type);
  g.popNumber(g.operand(0), type);
}
