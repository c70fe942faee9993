import type { PtxType } from "../ptx/types.ts";
import type { Opcode } from "../wasm/opcodes.ts";
import { approximateEmitters, approximateQuotient, approximateUpper } from "./approximations.ts";
import { doubleArithmetic, doubleMinOrMax, doubleSign } from "./doubles.ts";
import type { Emitters } from "./emitters.ts";
import { computeHalf, isHalf, narrowHalf, signOfHalf, withHalves } from "./halves.ts";
import { absolute, addOrSubtract, divide, minOrMax, multiply, multiplyAdd, negate } from "./integers.ts";
import { f32, type LaneEmitter } from "./lane.ts";
import { demote, flushTiny, popFloat, pushFloat, roundingOf, sumToOdd } from "./rounding.ts";

function pushDouble(g: LaneEmitter, operand: number): void {
  pushFloat(g, g.operand(operand), f32);
  g.c.op("f64_promote_f32");
}

/** Rounds the double on the stack to the result. */
function popDemoted(g: LaneEmitter): void {
  const mode = roundingOf(g);
  if (g.has("ftz")) flushTiny(g, "f32", mode);
  demote(g, mode);
  popFloat(g, f32);
}

function floatArithmetic(name: "add" | "sub" | "mul"): (g: LaneEmitter) => void {
  return (g) => {
    const type = g.type();
    const { c } = g;
    if (isHalf(type)) {
      computeHalf(g, type, 2, ([a, b]) => {
        c.get(a!).get(b!);
        if (name === "mul") c.op("f64_mul");
        else {
          if (name === "sub") c.op("f64_neg");
          g.call("oddAdd");
        }
      });
      return;
    }
    if (type.value === "f64") {
      doubleArithmetic(g, name);
      return;
    }
    const mode = roundingOf(g);
    if (mode === "rn" && !(name === "mul" && g.has("ftz"))) {
      for (const i of [1, 2]) pushFloat(g, g.operand(i), f32);
      c.op(`f32_${name}`);
      popFloat(g, f32);
      return;
    }
    pushDouble(g, 1);
    const second = (): void => {
      pushDouble(g, 2);
      if (name === "sub") c.op("f64_neg");
    };
    if (name === "mul") {
      second();
      c.op("f64_mul");
    } else sumToOdd(g, mode, second);
    popDemoted(g);
  };
}

/** fma, and mad on floats, which is the same from sm_20 on. */
function fusedMultiplyAdd(g: LaneEmitter): void {
  const type = g.type();
  const { c } = g;
  if (isHalf(type)) {
    computeHalf(g, type, 3, ([a, b, addend]) => {
      c.get(a!).get(b!).op("f64_mul").get(addend!);
      g.call("oddAdd");
    });
    return;
  }
  if (type.value === "f64") {
    doubleArithmetic(g, "fma");
    return;
  }
  const mode = roundingOf(g);
  if (mode === "rn" && !g.has("ftz")) {
    for (const i of [1, 2, 3]) pushFloat(g, g.operand(i), f32);
    g.call("fma32");
    popFloat(g, f32);
    return;
  }
  for (const i of [1, 2]) pushDouble(g, i);
  c.op("f64_mul");
  sumToOdd(g, mode, () => pushDouble(g, 3));
  popDemoted(g);
}

/**
 * Quotients and roots of floats have no 53-bit neighbour of a float that they are not: rounding in double first is safe.
 * `compute` leaves a double.
 */
function throughDouble(compute: (g: LaneEmitter) => void): (g: LaneEmitter) => void {
  return (g) => {
    compute(g);
    popDemoted(g);
  };
}

const quotient = throughDouble((g) => {
  pushDouble(g, 1);
  pushDouble(g, 2);
  g.c.op("f64_div");
});

const reciprocal = throughDouble((g) => {
  g.c.f64Value(1);
  pushDouble(g, 1);
  g.c.op("f64_div");
});

const root = throughDouble((g) => {
  pushDouble(g, 1);
  g.c.op("f64_sqrt");
});

const reciprocalRoot = throughDouble((g) => {
  g.c.f64Value(1);
  pushDouble(g, 1);
  g.c.op("f64_sqrt", "f64_div");
});

function divideFloats(g: LaneEmitter): void {
  if (g.type().value === "f64") doubleArithmetic(g, "div");
  else if (g.has("approx")) approximateQuotient(g);
  else quotient(g);
}

function ofDouble(name: "rcp" | "sqrt" | "rsqrt", ofFloats: (g: LaneEmitter) => void): (g: LaneEmitter) => void {
  return (g) => {
    if (g.type().value !== "f64") ofFloats(g);
    else if (g.has("approx") && g.has("ftz") && name !== "sqrt") approximateUpper(name)(g);
    else doubleArithmetic(g, name);
  };
}

/** Leaves the smaller or larger of two locals. NaN loses against a number unless `.NaN` says else; -0 is below +0. */
function select(g: LaneEmitter, name: "min" | "max", a: number, b: number, value: "f32" | "f64"): void {
  const { c } = g;
  const op = `${value}_${name}` as Opcode;
  const differs = `${value}_ne` as Opcode;
  if (!g.has("xorsign")) choose();
  else {
    // By magnitude; the result has the product of the signs, but a NaN none.
    c.temp(value, (x) =>
      c.temp(value, (sign) => {
        const one = () => (value === "f32" ? c.f32(0x3f800000n) : c.f64Value(1));
        one().get(a).op(`${value}_copysign`);
        one().get(b).op(`${value}_copysign`, `${value}_mul`).set(sign);
        for (const local of [a, b]) c.get(local).op(`${value}_abs`).set(local);
        choose();
        c.set(x).get(x).get(sign).op(`${value}_copysign`).get(x).get(x).get(x).op(`${value}_eq`, "select");
      }),
    );
  }

  function choose(): void {
    if (g.has("NaN")) {
      c.get(a).get(b).op(op);
      return;
    }
    c.get(a).get(a).op(differs).block("if", value).get(b);
    c.else().get(b).get(b).op(differs).block("if", value).get(a).else().get(a).get(b).op(op).end().end();
  }
}

function floatMinOrMax(g: LaneEmitter, name: "min" | "max"): void {
  const type = g.type();
  const { c } = g;
  if (g.instruction.operands.length > 3) g.unsupported();
  if (isHalf(type)) {
    withHalves(g, type, 2, ([a, b]) => {
      select(g, name, a!, b!, "f64");
      c.op("f32_demote_f64");
      narrowHalf(g, type);
    });
    return;
  }
  if (type.value === "f64") {
    doubleMinOrMax(g, name);
    return;
  }
  c.temp("f32", (a) =>
    c.temp("f32", (b) => {
      pushFloat(g, g.operand(1), type);
      c.set(a);
      pushFloat(g, g.operand(2), type);
      c.set(b);
      select(g, name, a, b, "f32");
      popFloat(g, type);
    }),
  );
}

function sign(name: "neg" | "abs"): (g: LaneEmitter) => void {
  return (g) => {
    const type = g.type();
    if (isHalf(type)) signOfHalf(g, type, name);
    else if (type.value === "f64") doubleSign(g, name);
    else {
      pushFloat(g, g.operand(1), type);
      g.c.op(`f32_${name}`);
      popFloat(g, type);
    }
  };
}

/** The sign of the first operand on the magnitude of the second. */
function copySign(g: LaneEmitter): void {
  const type: PtxType = g.type();
  g.push(g.operand(2), type);
  g.push(g.operand(1), type).op(`${type.value}_copysign` as Opcode);
  g.pop(g.operand(0), type);
}

function either(ofFloats: (g: LaneEmitter) => void, ofIntegers: (g: LaneEmitter) => void): (g: LaneEmitter) => void {
  return (g) => (g.type().kind === "float" ? ofFloats(g) : ofIntegers(g));
}

export const arithmeticEmitters: Emitters = {
  ...approximateEmitters,
  add: either(floatArithmetic("add"), addOrSubtract("add")),
  sub: either(floatArithmetic("sub"), addOrSubtract("sub")),
  mul: either(floatArithmetic("mul"), multiply),
  mad: either(fusedMultiplyAdd, multiplyAdd),
  fma: fusedMultiplyAdd,
  div: either(divideFloats, divide("div")),
  rcp: ofDouble("rcp", reciprocal),
  sqrt: ofDouble("sqrt", root),
  rsqrt: ofDouble("rsqrt", reciprocalRoot),
  min: either(
    (g) => floatMinOrMax(g, "min"),
    (g) => minOrMax(g, "min"),
  ),
  max: either(
    (g) => floatMinOrMax(g, "max"),
    (g) => minOrMax(g, "max"),
  ),
  neg: either(sign("neg"), negate),
  abs: either(sign("abs"), absolute),
  copysign: copySign,
};
