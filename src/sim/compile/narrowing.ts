import type { PtxType } from "../ptx/types.ts";
import { narrowHalf, widenHalf } from "./halves.ts";
import { f32, type LaneEmitter } from "./lane.ts";
import { type Rounding, roundingOf, saturateUnit } from "./rounding.ts";

/** Rounds the f32 on the stack to a 16-bit float. */
export function narrow(g: LaneEmitter, to: PtxType, mode: Rounding): void {
  const { c } = g;
  if (mode === "rn") narrowHalf(g, to);
  else if (to.name === "bf16") {
    if (mode !== "rz") g.unsupported("this rounding to bf16");
    c.temp("f32", (x) => {
      c.set(x).get(x).op("i32_reinterpret_f32").i32(16).op("i32_shr_u");
      c.i32(0x7fff).get(x).get(x).op("f32_eq", "select");
    });
  } else {
    // One step back where rounding to nearest went too far: away from zero, or up. Rounding up is down, of the negative.
    c.temp("f32", (x) =>
      c.temp("i32", (h) => {
        if (mode === "rp") c.op("f32_neg");
        c.set(x).get(x);
        narrowHalf(g, to);
        c.set(h);
        if (mode === "rz") {
          c.get(h).get(h);
          widenHalf(g, to);
          c.op("f32_abs").get(x).op("f32_abs", "f32_gt", "i32_sub");
        } else {
          c.get(h).get(h);
          widenHalf(g, to);
          c.get(x).op("f32_gt");
          c.i32(1).i32(-1).get(h).i32(0x8000).op("i32_and", "select", "i32_mul", "i32_add");
          if (mode === "rp") c.i32(0x8000).op("i32_xor").i32(0x7fff).get(x).get(x).op("f32_eq", "select");
        }
      }),
    );
  }
}

/** Puts the largest finite number in place of an infinity of 16 bits on the stack. */
export function saturateFinite(g: LaneEmitter, to: PtxType): void {
  const { c } = g;
  const infinity = to.name.startsWith("bf16") ? 0x7f80 : 0x7c00;
  c.temp("i32", (h) => c.tee(h).get(h).i32(0x7fff).op("i32_and").i32(infinity).op("i32_eq", "i32_sub"));
}

/**
 * To 10 bits of mantissa, halves away from zero (rna); the rest of the word is zero. What is not finite keeps its bits, and
 * with `.satfinite` all that has its exponent becomes one step less.
 */
export function roundTf32(g: LaneEmitter): void {
  const { c } = g;
  if (!g.has("rna")) g.unsupported();
  c.temp("i32", (bits) => {
    c.op("i32_reinterpret_f32").tee(bits).i32(0x1000).op("i32_add").get(bits);
    c.get(bits).i32(0x7fffffff).op("i32_and").i32(0x7f800000).op("i32_lt_u", "select");
    c.i32(~0x1fff).op("i32_and");
    if (!g.has("satfinite")) return;
    c.tee(bits).get(bits).i32(0x7f800000).op("i32_and").i32(0x7f800000).op("i32_eq").i32(13).op("i32_shl", "i32_sub");
  });
}

/** Between f16 and f64 a NaN keeps its sign and the upper bits of its payload; the 16 or 64 bits are on the stack. */
function halfNaNToDouble(g: LaneEmitter, half: number): void {
  const { c } = g;
  c.get(half).op("i64_extend_i32_u").i64(0x3ffn).op("i64_and").i64(42n).op("i64_shl");
  c.get(half).op("i64_extend_i32_u").i64(0x8000n).op("i64_and").i64(48n).op("i64_shl", "i64_or");
  c.i64(0x7ff8000000000000n).op("i64_or", "f64_reinterpret_i64");
}

export function halfToDouble(g: LaneEmitter, from: PtxType): void {
  const { c } = g;
  c.temp("i32", (half) => {
    c.set(half);
    halfNaNToDouble(g, half);
    c.get(half);
    widenHalf(g, from);
    c.op("f64_promote_f32");
    c.get(half).i32(0x7fff).op("i32_and").i32(0x7c00).op("i32_gt_u", "select");
  });
}

export function doubleToHalf(g: LaneEmitter, to: PtxType): void {
  const { c } = g;
  c.temp("f64", (x) => {
    c.set(x).get(x);
    g.call("demoteOdd");
    if (g.has("sat")) saturateUnit(g, f32);
    narrow(g, to, roundingOf(g));
    if (g.has("sat")) return;
    const bits = () => c.get(x).op("i64_reinterpret_f64");
    bits().i64(42n).op("i64_shr_u").i64(0x3ffn).op("i64_and");
    bits().i64(48n).op("i64_shr_u").i64(0x8000n).op("i64_and", "i64_or", "i32_wrap_i64").i32(0x7e00).op("i32_or");
    c.get(x).get(x).op("f64_eq", "select");
  });
}
