import type { PtxType } from "../ptx/types.ts";
import type { Opcode } from "../wasm/opcodes.ts";
import type { Emitters } from "./emitters.ts";
import { demote, flush, narrowHalf, type Rounding, roundingOf, saturateUnit, widenHalf } from "./floats.ts";
import { f32, f64, type LaneEmitter, u32 } from "./lane.ts";

/** The value on the stack as f32 or f64: 16-bit floats are widened. */
function widenFloat(g: LaneEmitter, type: PtxType): "f32" | "f64" {
  if (type.value === "f64") return "f64";
  if (type.value === "i32" && type.name !== "tf32") widenHalf(g, type);
  if (g.has("ftz")) flush(g);
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
    // NaN gives 0 unless a 64-bit type takes part, then the top bit alone.
    if (value === "f64" || to.bytes === 8) {
      if (to.bytes === 8) c.i64(1n << 63n);
      else c.i32(0x80000000 | 0);
      c.get(x)
        .get(x)
        .op(`${value}_eq` as Opcode, "select");
    }
  });
  if (to.bytes < 4) clamp(g, to, to.kind === "signed");
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
  const source = from.value as "i32" | "i64";
  if (to.value === "f64") {
    if (mode !== "rn" && from.bytes === 8) g.unsupported("directed rounding of .f64");
    c.op(`f64_convert_${source}_${sign}`);
  } else if (to.value === "f32" && mode === "rn") c.op(`f32_convert_${source}_${sign}`);
  else {
    if (from.bytes === 8) g.unsupported("this rounding of a 64-bit integer");
    c.op(`f64_convert_i32_${sign}`);
    if (to.value === "f32") demote(g, mode);
    else {
      g.call("demoteOdd");
      narrow(g, to, mode);
    }
  }
}

/** Rounds the f32 on the stack to a 16-bit float. */
function narrow(g: LaneEmitter, to: PtxType, mode: Rounding): void {
  const { c } = g;
  if (mode === "rn") narrowHalf(g, to);
  else if (mode === "rz" && to.name.startsWith("bf16")) {
    c.temp("f32", (x) => {
      c.set(x).get(x).op("i32_reinterpret_f32").i32(16).op("i32_shr_u");
      c.i32(0x7fff).get(x).get(x).op("f32_eq", "select");
    });
  } else if (mode === "rz") {
    // One step back where rounding to nearest went away from zero.
    c.temp("f32", (x) =>
      c.temp("i32", (h) => {
        c.set(x).get(x);
        g.call("toHalf").tee(h);
        c.get(h);
        g.call("fromHalf").op("f32_abs").get(x).op("f32_abs", "f32_gt", "i32_sub");
      }),
    );
  } else g.unsupported("this rounding to 16 bits");
}

function floatToFloat(g: LaneEmitter, from: PtxType, to: PtxType): void {
  const { c } = g;
  const value = widenFloat(g, from);
  roundWhole(g, value);
  if (to.value === "f64") {
    if (value === "f32") c.op("f64_promote_f32");
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
  if (g.has("relu")) c.temp("f32", (x) => c.set(x).get(x).f32(0n).get(x).f32(0n).op("f32_lt", "i32_eqz", "select"));
  if (g.has("sat")) saturateUnit(g, f32);
  if (to.name === "tf32") roundTf32(g);
  else if (to.bytes === 2) narrow(g, to, roundingOf(g));
  else g.unsupported();
}

/** To 10 bits of mantissa, halves away from zero (rna) or to even (rn); the rest of the word is zero. */
function roundTf32(g: LaneEmitter): void {
  const { c } = g;
  c.temp("i32", (bits) => {
    c.op("i32_reinterpret_f32").set(bits);
    c.get(bits);
    if (g.has("rna")) c.i32(0x1000);
    else if (g.has("rn")) c.get(bits).i32(13).op("i32_shr_u").i32(1).op("i32_and").i32(0xfff).op("i32_add");
    else g.unsupported();
    c.op("i32_add").i32(~0x1fff).op("i32_and").i32(0x7fffffff);
    c.get(bits).i32(0x7fffffff).op("i32_and").i32(0x7f800000).op("i32_le_u", "select");
  });
}

function convert(g: LaneEmitter): void {
  const [to, from] = [g.types().at(-2), g.types().at(-1)];
  const { c } = g;
  if (!to || !from || g.has("pack") || g.has("satfinite") || g.has("rs")) g.unsupported();
  if (to.name === "f16x2" || to.name === "bf16x2") {
    if (from.name !== "f32" || g.instruction.operands.length !== 3) g.unsupported();
    const half = { ...to, name: to.name.slice(0, -2), bytes: 2 };
    g.push(g.operand(2), f32);
    floatToFloat(g, f32, half);
    g.push(g.operand(1), f32);
    floatToFloat(g, f32, half);
    c.i32(16).op("i32_shl", "i32_or");
    g.pop(g.operand(0), u32);
    return;
  }
  g.push(g.operand(1), from);
  if (from.kind === "float") {
    if (to.kind === "float") floatToFloat(g, from, to);
    else floatToInteger(g, from, to);
  } else if (to.kind === "float") {
    integerToFloat(g, from, to);
    if (g.has("sat")) saturateUnit(g, to);
  } else integerToInteger(g, from, to);
  g.pop(g.operand(0), to);
}

export const conversionEmitters: Emitters = { cvt: convert };
