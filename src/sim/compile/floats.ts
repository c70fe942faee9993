import type { Operand } from "../ptx/ast.ts";
import type { PtxType } from "../ptx/types.ts";
import type { Opcode } from "../wasm/opcodes.ts";
import type { Emitters } from "./emitters.ts";
import { absolute, addOrSubtract, divide, minOrMax, multiply, multiplyAdd, negate } from "./integers.ts";
import { f32, f64, type LaneEmitter, u32 } from "./lane.ts";

const canonicalNaN = 0x7fffffffn;

/** f16, bf16 and their pairs: carried as bits, computed in double and rounded once. */
function isHalf(type: PtxType): boolean {
  return type.kind === "float" && type.value === "i32" && type.name !== "tf32";
}

function halves(type: PtxType): 1 | 2 {
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

/** Flushes a subnormal f32 on the stack to zero of its sign. */
export function flush(g: LaneEmitter): void {
  const { c } = g;
  c.temp("f32", (x) => {
    c.set(x).f32(0n).get(x).op("f32_copysign").get(x).get(x).op("f32_abs").f32(0x00800000n).op("f32_lt", "select");
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

export type Rounding = "rn" | "rz" | "rm" | "rp";

export function roundingOf(g: LaneEmitter): Rounding {
  return (["rz", "rm", "rp"] as const).find((mode) => g.has(mode)) ?? "rn";
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
function sumToOdd(g: LaneEmitter, mode: Rounding, pushAddend: () => void): void {
  const { c } = g;
  if (mode === "rm") c.op("f64_neg");
  pushAddend();
  if (mode === "rm") c.op("f64_neg");
  g.call("oddAdd");
  if (mode === "rm") c.op("f64_neg");
}

/** Puts a float operand on the stack, flushed where the instruction says so. */
export function pushFloat(g: LaneEmitter, operand: Operand, type: PtxType): void {
  g.push(operand, type);
  if (type.value === "f32" && g.has("ftz")) flush(g);
}

export function popFloat(g: LaneEmitter, type: PtxType): void {
  if (type.value === "f32" && g.has("ftz")) flush(g);
  if (g.has("sat")) saturateUnit(g, type);
  g.pop(g.operand(0), type);
}

/** Computes in double from the operands 1.., for each 16-bit part; `compute` leaves a double rounded to odd. */
function computeHalf(
  g: LaneEmitter,
  type: PtxType,
  operands: number,
  compute: (values: readonly number[]) => void,
): void {
  const { c } = g;
  const parts = halves(type);
  const locals = Array.from({ length: operands }, () => c.local("f64"));
  c.temp("i32", (result) => {
    c.i32(0).set(result);
    for (let part = 0; part < parts; part++) {
      locals.forEach((local, i) => {
        g.push(g.operand(i + 1), parts === 2 ? u32 : type);
        if (parts === 2)
          c.i32(16 * part)
            .op("i32_shr_u")
            .i32(0xffff)
            .op("i32_and");
        widenHalf(g, type);
        c.op("f64_promote_f32").set(local);
      });
      compute(locals);
      g.call("demoteOdd");
      if (g.has("sat")) saturateUnit(g, f32);
      if (g.has("relu")) c.temp("f32", (x) => c.set(x).get(x).f32(0n).get(x).f32(0n).op("f32_lt", "i32_eqz", "select"));
      narrowHalf(g, type);
      c.i32(16 * part)
        .op("i32_shl")
        .get(result)
        .op("i32_or")
        .set(result);
    }
    c.get(result);
    g.pop(g.operand(0), parts === 2 ? u32 : type);
  });
}

function floatArithmetic(name: "add" | "sub" | "mul"): (g: LaneEmitter) => void {
  return (g) => {
    const type = g.type();
    const { c } = g;
    const mode = roundingOf(g);
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
    if (type.value === "f64" && mode !== "rn") g.unsupported("directed rounding of .f64");
    pushFloat(g, g.operand(1), type);
    if (mode === "rn") {
      pushFloat(g, g.operand(2), type);
      c.op(`${type.value}_${name}` as Opcode);
    } else {
      c.op("f64_promote_f32");
      const second = (): void => {
        pushFloat(g, g.operand(2), type);
        c.op("f64_promote_f32");
        if (name === "sub") c.op("f64_neg");
      };
      if (name === "mul") {
        second();
        c.op("f64_mul");
      } else sumToOdd(g, mode, second);
      demote(g, mode);
    }
    popFloat(g, type);
  };
}

/** fma, and mad on floats, which is the same from sm_20 on. */
function fusedMultiplyAdd(g: LaneEmitter): void {
  const type = g.type();
  const { c } = g;
  const mode = roundingOf(g);
  if (isHalf(type)) {
    computeHalf(g, type, 3, ([a, b, addend]) => {
      c.get(a!).get(b!).op("f64_mul").get(addend!);
      g.call("oddAdd");
    });
    return;
  }
  if (type.value === "f64") {
    if (mode !== "rn") g.unsupported("directed rounding of .f64");
    for (const i of [1, 2, 3]) g.push(g.operand(i), f64);
    g.call("fma64");
  } else if (mode === "rn") {
    for (const i of [1, 2, 3]) pushFloat(g, g.operand(i), f32);
    g.call("fma32");
  } else {
    for (const i of [1, 2]) {
      pushFloat(g, g.operand(i), f32);
      c.op("f64_promote_f32");
    }
    c.op("f64_mul");
    sumToOdd(g, mode, () => {
      pushFloat(g, g.operand(3), f32);
      c.op("f64_promote_f32");
    });
    demote(g, mode);
  }
  popFloat(g, type);
}

/** Quotients and roots of floats have no 53-bit neighbour of a float that they are not: rounding in double first is safe. */
function throughDouble(g: LaneEmitter, type: PtxType, compute: () => void): void {
  const { c } = g;
  compute();
  if (type.value === "f32") {
    if (g.has("approx") || g.has("full")) c.op("f32_demote_f64");
    else demote(g, roundingOf(g));
  } else if (roundingOf(g) !== "rn") g.unsupported("directed rounding of .f64");
  popFloat(g, type);
}

function pushDouble(g: LaneEmitter, operand: number, type: PtxType): void {
  pushFloat(g, g.operand(operand), type);
  if (type.value === "f32") g.c.op("f64_promote_f32");
}

function quotient(g: LaneEmitter): void {
  const type = g.type();
  throughDouble(g, type, () => {
    pushDouble(g, 1, type);
    pushDouble(g, 2, type);
    g.c.op("f64_div");
  });
}

function reciprocal(g: LaneEmitter): void {
  const type = g.type();
  throughDouble(g, type, () => {
    g.c.f64Value(1);
    pushDouble(g, 1, type);
    g.c.op("f64_div");
  });
}

function root(g: LaneEmitter): void {
  const type = g.type();
  throughDouble(g, type, () => {
    pushDouble(g, 1, type);
    g.c.op("f64_sqrt");
  });
}

function reciprocalRoot(g: LaneEmitter): void {
  const type = g.type();
  throughDouble(g, type, () => {
    g.c.f64Value(1);
    pushDouble(g, 1, type);
    g.c.op("f64_sqrt", "f64_div");
  });
}

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
    pushDouble(g, 1, type);
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

/** NaN loses against a number, and -0 is below +0. */
function floatMinOrMax(g: LaneEmitter, name: "min" | "max"): void {
  const type = g.type();
  const { c } = g;
  if (g.instruction.operands.length > 3 || g.has("xorsign")) g.unsupported();
  const compute = (a: number, b: number, value: "f32" | "f64"): void => {
    const op = `${value}_${name}` as Opcode;
    const notEqual = `${value}_ne` as Opcode;
    if (g.has("NaN")) {
      c.get(a).get(b).op(op);
      return;
    }
    c.get(a).get(a).op(notEqual).block("if", value).get(b);
    c.else().get(b).get(b).op(notEqual).block("if", value).get(a).else().get(a).get(b).op(op).end().end();
  };
  if (isHalf(type)) {
    computeHalf(g, type, 2, ([a, b]) => compute(a!, b!, "f64"));
    return;
  }
  const value = type.value as "f32" | "f64";
  c.temp(value, (a) =>
    c.temp(value, (b) => {
      pushFloat(g, g.operand(1), type);
      c.set(a);
      pushFloat(g, g.operand(2), type);
      c.set(b);
      compute(a, b, value);
      if (value === "f32") {
        c.tee(a).get(a).op("f32_ne").block("if", "f32").f32(canonicalNaN).else().get(a).end();
      }
      popFloat(g, type);
    }),
  );
}

/** neg and abs: of the sign bit alone. */
function sign(name: "neg" | "abs"): (g: LaneEmitter) => void {
  return (g) => {
    const type = g.type();
    const { c } = g;
    if (isHalf(type)) {
      const bit = halves(type) === 2 ? 0x80008000 : 0x8000;
      g.push(g.operand(1), halves(type) === 2 ? u32 : type);
      if (name === "neg") c.i32(bit | 0).op("i32_xor");
      else c.i32(~bit).op("i32_and");
      g.pop(g.operand(0), halves(type) === 2 ? u32 : type);
      return;
    }
    pushFloat(g, g.operand(1), type);
    c.op(`${type.value}_${name}` as Opcode);
    popFloat(g, type);
  };
}

/** The sign of the first operand on the magnitude of the second. */
function copySign(g: LaneEmitter): void {
  const type = g.type();
  g.push(g.operand(2), type);
  g.push(g.operand(1), type).op(`${type.value}_copysign` as Opcode);
  g.pop(g.operand(0), type);
}

function either(ofFloats: (g: LaneEmitter) => void, ofIntegers: (g: LaneEmitter) => void): (g: LaneEmitter) => void {
  return (g) => (g.type().kind === "float" ? ofFloats(g) : ofIntegers(g));
}

export const arithmeticEmitters: Emitters = {
  add: either(floatArithmetic("add"), addOrSubtract("add")),
  sub: either(floatArithmetic("sub"), addOrSubtract("sub")),
  mul: either(floatArithmetic("mul"), multiply),
  mad: either(fusedMultiplyAdd, multiplyAdd),
  fma: fusedMultiplyAdd,
  div: either(quotient, divide("div")),
  rcp: reciprocal,
  sqrt: root,
  rsqrt: reciprocalRoot,
  ex2: exponential,
  lg2: approximate("lg2"),
  sin: approximate("sin"),
  cos: approximate("cos"),
  tanh: approximate("tanh"),
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
