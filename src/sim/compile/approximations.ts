import type { Emitters } from "./emitters.ts";
import { computeHalf, isHalf } from "./halves.ts";
import { f32, type LaneEmitter } from "./lane.ts";
import { flushBelow, popFloat, pushFloat } from "./rounding.ts";

/** Approximations, computed in double and rounded: inside every documented bound. */
function approximate(name: "lg2" | "sin" | "cos" | "tanh"): (g: LaneEmitter) => void {
  return (g) => {
    const type = g.type();
    if (isHalf(type)) {
      computeHalf(g, type, 1, ([x]) => {
        g.c.get(x!);
        g.call(name);
      });
      return;
    }
    pushFloat(g, g.operand(1), type);
    g.c.op("f64_promote_f32");
    g.call(name).op("f32_demote_f64");
    popFloat(g, type);
  };
}

function exponential(g: LaneEmitter): void {
  const type = g.type();
  if (isHalf(type)) {
    computeHalf(g, type, 1, ([x]) => {
      g.c.get(x!).op("f32_demote_f64");
      g.call("ex2").op("f64_promote_f32");
    });
    return;
  }
  pushFloat(g, g.operand(1), type);
  g.call("ex2");
  popFloat(g, type);
}

/**
 * div.approx: a times the reciprocal of b, which is zero for |b| above 2^126: the quotient is too, and NaN when a is
 * infinite.
 */
export function approximateQuotient(g: LaneEmitter): void {
  const { c } = g;
  c.temp("f64", (a) =>
    c.temp("f64", (b) => {
      pushFloat(g, g.operand(1), f32);
      c.op("f64_promote_f32").set(a);
      pushFloat(g, g.operand(2), f32);
      c.op("f64_promote_f32").set(b);
      c.get(a).f64Value(0).get(b).op("f64_copysign", "f64_mul").get(a).get(b).op("f64_div");
      c.get(b)
        .op("f64_abs")
        .f64Value(2 ** 126)
        .op("f64_gt")
        .get(b)
        .op("f64_abs");
      c.f64Value(Number.POSITIVE_INFINITY).op("f64_lt", "i32_and", "select", "f32_demote_f64");
    }),
  );
  popFloat(g, f32);
}

/**
 * rcp.approx.ftz.f64 and rsqrt.approx.ftz.f64: of the operand's upper word, to the result's upper word. A NaN gives
 * 0x7fffffff there; one whose upper word is infinity's counts as that.
 */
export function approximateUpper(name: "rcp" | "rsqrt"): (g: LaneEmitter) => void {
  return (g) => {
    const { c } = g;
    const type = g.type();
    const upper = (): void => {
      c.op("i64_reinterpret_f64")
        .i64(-1n << 32n)
        .op("i64_and", "f64_reinterpret_i64");
    };
    c.temp("f64", (x) => {
      g.pushNumber(g.operand(1), type);
      upper();
      flushBelow(g, 2 ** -1022);
      c.set(x).f64Value(1).get(x);
      if (name === "rsqrt") {
        // The root of -0 is -0, so that its reciprocal is negative infinity.
        c.op("f64_sqrt");
      }
      c.op("f64_div");
      flushBelow(g, 2 ** -1022);
      upper();
      c.tee(x).f64(0x7fffffff00000000n).get(x).get(x).op("f64_eq", "select");
    });
    g.pop(g.operand(0), type);
  };
}

export const approximateEmitters: Emitters = {
  ex2: exponential,
  lg2: approximate("lg2"),
  sin: approximate("sin"),
  cos: approximate("cos"),
  tanh: approximate("tanh"),
};
