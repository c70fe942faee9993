import type { PtxType } from "../ptx/types.ts";
import type { Opcode } from "../wasm/opcodes.ts";
import type { Emitters } from "./emitters.ts";
import { isHalf, widenHalf } from "./halves.ts";
import { f32, f64, type LaneEmitter, u32 } from "./lane.ts";
import { canonicalize } from "./nan.ts";
import { doubleToHalf, halfToDouble, narrow, roundTf32, saturateFinite } from "./narrowing.ts";
import { demote, flush, rectify, roundingNumber, roundingOf, saturateUnit } from "./rounding.ts";
import { convertSmallFloats, packIntegers } from "./small-types.ts";

/** The value on the stack as f32 or f64: 16-bit floats are widened. */
function widenFloat(g: LaneEmitter, type: PtxType, to?: PtxType): "f32" | "f64" {
  if (type.value === "f64") return "f64";
  if (isHalf(type)) widenHalf(g, type);
  // Hardware does not flush what it converts to f16.
  else if (g.has("ftz") && !(to && isHalf(to))) flush(g);
  return "f32";
}

const wholeNumber = { rni: "nearest", rzi: "trunc", rmi: "floor", rpi: "ceil" } as const;

/** Rounds the float on the stack to a whole number, where the instruction says how. */
function roundWhole(g: LaneEmitter, value: "f32" | "f64"): boolean {
  const mode = (Object.keys(wholeNumber) as (keyof typeof wholeNumber)[]).find((m) => g.has(m));
  if (mode) g.c.op(`${value}_${wholeNumber[mode]}`);
  return mode !== undefined;
}

/** Leaves an integer of `to`, clamped to its range; NaN gives what the hardware gives. */
function floatToInteger(g: LaneEmitter, from: PtxType, to: PtxType): void {
  const { c } = g;
  const value = widenFloat(g, from);
  if (!roundWhole(g, value)) g.unsupported("the rounding of a float to an integer must be named");
  const sign = to.kind === "signed" ? "s" : "u";
  c.temp(value, (x) => {
    c.set(x)
      .get(x)
      .saturate(`${to.value as "i32" | "i64"}_trunc_sat_${value}_${sign}`);
    if (to.bytes < 4) clamp(g, to, to.kind === "signed");
    // NaN gives 0 unless a 64-bit type takes part, then the top bit alone.
    if (value === "f64" || to.bytes === 8) {
      if (to.bytes === 8) c.i64(1n << 63n);
      else c.i32((-1 << (8 * to.bytes - 1)) & (to.kind === "signed" ? -1 : 2 ** (8 * to.bytes) - 1));
      c.get(x)
        .get(x)
        .op(`${value}_eq` as Opcode, "select");
    }
  });
}

/** Clamps the i32 on the stack, signed or not as `signed` says, to the range of a type of 8, 16 or 32 bits. */
function clamp(g: LaneEmitter, to: PtxType, signed: boolean): void {
  const { c } = g;
  const bits = 8 * to.bytes;
  const [low, high] = to.kind === "signed" ? [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] : [0, 2 ** bits - 1];
  c.temp("i32", (x) => {
    c.set(x);
    if (signed) c.get(x).i32(low).get(x).i32(low).op("i32_gt_s", "select").set(x);
    c.get(x)
      .i32(high)
      .get(x)
      .i32(high)
      .op(signed ? "i32_lt_s" : "i32_lt_u", "select");
  });
}

/** cvt.sat between integers, through 64 bits. */
function saturateInteger(g: LaneEmitter, from: PtxType, to: PtxType): void {
  const { c } = g;
  const fromSigned = from.kind === "signed";
  if (from.bytes < 8) c.op(fromSigned ? "i64_extend_i32_s" : "i64_extend_i32_u");
  const bits = BigInt(8 * to.bytes);
  const [low, high] = to.kind === "signed" ? [-(1n << (bits - 1n)), (1n << (bits - 1n)) - 1n] : [0n, (1n << bits) - 1n];
  c.temp("i64", (x) => {
    c.set(x);
    if (fromSigned) c.get(x).i64(low).get(x).i64(low).op("i64_gt_s", "select").set(x);
    // An upper bound of 2^64 - 1 holds for everything that is not negative.
    if (to.bytes < 8 || to.kind === "signed") {
      c.get(x)
        .i64(high)
        .get(x)
        .i64(high)
        .op(fromSigned ? "i64_lt_s" : "i64_lt_u", "select")
        .set(x);
    }
    c.get(x);
  });
  if (to.bytes < 8) c.op("i32_wrap_i64");
}

function integerToInteger(g: LaneEmitter, from: PtxType, to: PtxType): void {
  const { c } = g;
  if (g.has("sat")) {
    saturateInteger(g, from, to);
    return;
  }
  if (to.bytes === 8) {
    if (from.bytes < 8) c.op(from.kind === "signed" ? "i64_extend_i32_s" : "i64_extend_i32_u");
    return;
  }
  if (from.bytes === 8) c.op("i32_wrap_i64");
  if (to.bytes === 2) {
    if (to.kind === "signed") c.op("i32_extend16_s");
    else c.i32(0xffff).op("i32_and");
  } else if (to.bytes === 1) {
    if (to.kind === "signed") c.op("i32_extend8_s");
    else c.i32(0xff).op("i32_and");
  }
}

function integerToFloat(g: LaneEmitter, from: PtxType, to: PtxType): void {
  const { c } = g;
  const sign = from.kind === "signed" ? "s" : "u";
  const mode = roundingOf(g);
  if (mode === "rn" && !isHalf(to)) {
    c.op(`${to.value as "f32" | "f64"}_convert_${from.value as "i32" | "i64"}_${sign}`);
    return;
  }
  if (from.bytes < 8) c.op(`f64_convert_i32_${sign}`);
  else {
    // The upper word times 2^32, and the lower: a sum, to be rounded once.
    c.temp("i64", (x) => {
      c.tee(x)
        .i64(32n)
        .op(`i64_shr_${sign}`, `f64_convert_i64_${sign}`)
        .f64Value(2 ** 32);
      if (to.value !== "f64") c.op("f64_mul");
      c.get(x).i64(0xffffffffn).op("i64_and", "f64_convert_i64_u");
    });
    if (to.value !== "f64") g.call("oddAdd");
    else {
      c.i32(roundingNumber[mode]);
      g.call("fma64");
    }
  }
  if (to.value === "f32") demote(g, mode);
  else if (isHalf(to)) {
    g.call("demoteOdd");
    narrow(g, to, mode);
  }
}

/** The value of a float operand is on the stack. */
function floatToFloat(g: LaneEmitter, from: PtxType, to: PtxType): void {
  const { c } = g;
  const value = widenFloat(g, from, to);
  roundWhole(g, value);
  if (to.value === "f64") {
    if (value === "f32") {
      // With .ftz the operand goes through an instruction that makes NaN canonical.
      if (g.has("ftz")) canonicalize(c);
      c.op("f64_promote_f32");
    }
    if (g.has("sat")) saturateUnit(g, f64);
    return;
  }
  if (value === "f64") {
    if (to.value === "f32") demote(g, roundingOf(g));
    else g.call("demoteOdd");
  }
  if (to.value === "f32") {
    if (from.value === "f64" && g.has("ftz")) flush(g);
    if (g.has("sat")) saturateUnit(g, f32);
    return;
  }
  if (to.name === "tf32") {
    roundTf32(g);
    return;
  }
  if (g.has("relu")) rectify(g);
  if (g.has("sat")) saturateUnit(g, f32);
  narrow(g, to, roundingOf(g));
  if (g.has("satfinite")) saturateFinite(g, to);
}

function convert(g: LaneEmitter): void {
  if (g.has("pack")) {
    packIntegers(g);
    return;
  }
  if (g.has("rs")) g.unsupported();
  if (convertSmallFloats(g)) return;
  const [to, from] = [g.types().at(-2), g.types().at(-1)];
  const { c } = g;
  if (!to || !from) g.unsupported();
  if (to.name === "f16x2" || to.name === "bf16x2") {
    if (from.name !== "f32" || g.instruction.operands.length !== 3) g.unsupported();
    const half = { ...to, name: to.name.slice(0, -2), bytes: 2 };
    g.pushNumber(g.operand(2), f32);
    floatToFloat(g, f32, half);
    g.pushNumber(g.operand(1), f32);
    floatToFloat(g, f32, half);
    c.i32(16).op("i32_shl", "i32_or");
    g.pop(g.operand(0), u32);
    return;
  }
  g.push(g.operand(1), from);
  if (from.kind === "float") {
    if (to.kind !== "float") floatToInteger(g, from, to);
    else if (from.name === "f16" && to.value === "f64") halfToDouble(g, from);
    else if (from.value === "f64" && to.name === "f16") doubleToHalf(g, to);
    else floatToFloat(g, from, to);
  } else if (to.kind === "float") {
    integerToFloat(g, from, to);
    if (g.has("sat")) saturateUnit(g, to);
  } else integerToInteger(g, from, to);
  // From f64, a NaN keeps the upper bits of its payload.
  if (to.value === "f32" && from.value !== "f64") g.popNumber(g.operand(0), to);
  else g.pop(g.operand(0), to);
}

export const conversionEmitters: Emitters = { cvt: convert };
