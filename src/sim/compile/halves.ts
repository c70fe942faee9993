import type { PtxType } from "../ptx/types.ts";
import { f32, type LaneEmitter, u32 } from "./lane.ts";
import { flushBelow, flushTiny, rectify, saturateUnit, smallestNormal } from "./rounding.ts";

/** f16, bf16 and their pairs: carried as bits, computed in double and rounded once. */
export function isHalf(type: PtxType): boolean {
  return /^bf?16(x2)?$|^f16(x2)?$/.test(type.name);
}

export function halves(type: PtxType): 1 | 2 {
  return type.name.endsWith("x2") ? 2 : 1;
}

/** Turns the 16 bits on the stack into f32. */
export function widenHalf(g: LaneEmitter, type: PtxType): void {
  if (type.name.startsWith("bf16")) g.c.i32(16).op("i32_shl", "f32_reinterpret_i32");
  else g.call("fromHalf");
}

/** Rounds the f32 on the stack to 16 bits. */
export function narrowHalf(g: LaneEmitter, type: PtxType): void {
  g.call(type.name.startsWith("bf16") ? "toBfloat" : "toHalf");
}

/** Calls `each` for every 16-bit part, which takes its bits from operand i with `push(i)` and leaves those of the result. */
function byParts(g: LaneEmitter, type: PtxType, each: (push: (operand: number) => void) => void): void {
  const { c } = g;
  if (halves(type) === 1) {
    each((operand) => g.push(g.operand(operand), type));
    g.pop(g.operand(0), type);
    return;
  }
  c.temp("i32", (result) => {
    c.i32(0).set(result);
    for (const shift of [0, 16]) {
      each((operand) => g.push(g.operand(operand), u32).i32(shift).op("i32_shr_u").i32(0xffff).op("i32_and"));
      c.i32(shift).op("i32_shl").get(result).op("i32_or").set(result);
    }
    c.get(result);
    g.pop(g.operand(0), u32);
  });
}

/** Puts the operands as doubles into locals, for each 16-bit part; subnormals are flushed where the instruction says so. */
export function withHalves(
  g: LaneEmitter,
  type: PtxType,
  operands: number,
  compute: (values: readonly number[]) => void,
): void {
  const { c } = g;
  const locals = Array.from({ length: operands }, () => c.local("f64"));
  byParts(g, type, (push) => {
    locals.forEach((local, i) => {
      push(i + 1);
      widenHalf(g, type);
      c.op("f64_promote_f32");
      if (g.has("ftz")) flushBelow(g, smallestNormal.f16);
      c.set(local);
    });
    compute(locals);
  });
}

/** Computes from the operands 1.., for each 16-bit part; `compute` leaves a double, exact or rounded to odd. */
export function computeHalf(
  g: LaneEmitter,
  type: PtxType,
  operands: number,
  compute: (values: readonly number[]) => void,
): void {
  withHalves(g, type, operands, (values) => {
    compute(values);
    if (g.has("ftz")) flushTiny(g, "f16", "rn");
    g.call("demoteOdd");
    if (g.has("sat")) saturateUnit(g, f32);
    if (g.has("relu")) rectify(g);
    narrowHalf(g, type);
  });
}

/** neg and abs: of the sign bit alone, but NaN becomes the canonical one, and subnormals zero with `.ftz`. */
export function signOfHalf(g: LaneEmitter, type: PtxType, name: "neg" | "abs"): void {
  const { c } = g;
  const infinity = type.name.startsWith("bf16") ? 0x7f80 : 0x7c00;
  byParts(g, type, (push) =>
    c.temp("i32", (x) => {
      push(1);
      c.set(x);
      if (g.has("ftz")) {
        c.get(x).i32(0x8000).op("i32_and").get(x).get(x).i32(infinity).op("i32_and", "i32_eqz", "select").set(x);
      }
      c.i32(0x7fff).get(x);
      if (name === "neg") c.i32(0x8000).op("i32_xor");
      else c.i32(0x7fff).op("i32_and");
      c.get(x).i32(0x7fff).op("i32_and").i32(infinity).op("i32_gt_u", "select");
    }),
  );
}
