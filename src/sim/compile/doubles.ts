import { f64, type LaneEmitter } from "./lane.ts";
import { roundingNumber, roundingOf } from "./rounding.ts";

/**
 * f64 keeps the payload of a NaN that goes in, made quiet. With several, hardware's order of choice is: the second
 * operand, the third, the first; div, which is a program there, takes the first before the second. A new NaN is
 * 0xfff8000000000000.
 */
function pushNaN(g: LaneEmitter, result: number, choices: readonly number[]): void {
  const [last, middle, first] = [...choices, ...choices, ...choices].slice(0, 3).reverse() as [number, number, number];
  g.c.get(result).get(first).get(middle).get(last);
  g.call("chooseNaN");
}

/** Forms of arithmetic that are the same for rounding to nearest; with the operands in locals they leave the result. */
const nearest = {
  add: (g: LaneEmitter, [a, b]: readonly number[]) => g.c.get(a!).get(b!).op("f64_add"),
  sub: (g: LaneEmitter, [a, b]: readonly number[]) => g.c.get(a!).get(b!).op("f64_sub"),
  mul: (g: LaneEmitter, [a, b]: readonly number[]) => g.c.get(a!).get(b!).op("f64_mul"),
  div: (g: LaneEmitter, [a, b]: readonly number[]) => g.c.get(a!).get(b!).op("f64_div"),
  rcp: (g: LaneEmitter, [a]: readonly number[]) => g.c.f64Value(1).get(a!).op("f64_div"),
  sqrt: (g: LaneEmitter, [a]: readonly number[]) => g.c.get(a!).op("f64_sqrt"),
  rsqrt: (g: LaneEmitter, [a]: readonly number[]) => g.c.f64Value(1).get(a!).op("f64_sqrt", "f64_div"),
} as const;

type Name = keyof typeof nearest | "fma";

/** Directed roundings, and fma in all, are done with whole numbers in JavaScript. */
function directed(g: LaneEmitter, name: Name, operands: readonly number[]): void {
  const { c } = g;
  const [a, b, addend] = operands;
  const mode = roundingNumber[roundingOf(g)];
  switch (name) {
    case "fma":
      c.get(a!).get(b!).get(addend!).i32(mode);
      g.call("fma64");
      return;
    case "add":
    case "sub":
      c.get(a!).f64Value(1).get(b!);
      if (name === "sub") c.op("f64_neg");
      c.i32(mode);
      g.call("fma64");
      return;
    case "mul":
      // The zero that is added has the product's sign, and does not change it.
      c.get(a!).get(b!).f64Value(-0).f64Value(0).f64Value(1).get(a!).op("f64_copysign").f64Value(1).get(b!);
      c.op("f64_copysign", "f64_mul").f64Value(0).op("f64_lt", "select").i32(mode);
      g.call("fma64");
      return;
    case "div":
      c.get(a!).get(b!).i32(mode);
      g.call("divide64");
      return;
    case "rcp":
      c.f64Value(1).get(a!).i32(mode);
      g.call("divide64");
      return;
    case "sqrt":
      c.get(a!).i32(mode);
      g.call("root64");
      return;
    default:
      g.unsupported();
  }
}

export function doubleArithmetic(g: LaneEmitter, name: Name): void {
  const { c } = g;
  const count = name === "fma" ? 3 : ["rcp", "sqrt", "rsqrt"].includes(name) ? 1 : 2;
  const operands = [1, 2, 3].slice(0, count).map((i) => {
    const local = c.local("f64");
    g.push(g.operand(i), f64).set(local);
    return local;
  });
  c.temp("f64", (result) => {
    if (name === "fma" || roundingOf(g) !== "rn") directed(g, name, operands);
    else nearest[name](g, operands);
    c.set(result);
    const [a, b, addend] = operands as [number, number, number];
    pushNaN(g, result, count === 1 ? [a] : name === "fma" ? [b, addend, a] : name === "div" ? [a, b] : [b, a]);
    g.pop(g.operand(0), f64);
  });
}

/** The smaller or larger number; of two NaN the second, quiet. -0 is below +0. */
export function doubleMinOrMax(g: LaneEmitter, name: "min" | "max"): void {
  const { c } = g;
  c.temp("f64", (a) =>
    c.temp("f64", (b) =>
      c.temp("f64", (result) => {
        g.push(g.operand(1), f64).set(a);
        g.push(g.operand(2), f64).set(b);
        c.get(a).get(a).op("f64_ne").block("if", "f64").get(b);
        c.else()
          .get(b)
          .get(b)
          .op("f64_ne")
          .block("if", "f64")
          .get(a)
          .else()
          .get(a)
          .get(b)
          .op(`f64_${name}`)
          .end()
          .end();
        c.set(result);
        pushNaN(g, result, [b, a]);
        g.pop(g.operand(0), f64);
      }),
    ),
  );
}

/** neg and abs of numbers; a NaN keeps its sign, and becomes quiet. */
export function doubleSign(g: LaneEmitter, name: "neg" | "abs"): void {
  const { c } = g;
  c.temp("f64", (a) =>
    c.temp("f64", (result) => {
      g.push(g.operand(1), f64).tee(a).op(`f64_${name}`).set(result);
      pushNaN(g, result, [a]);
      g.pop(g.operand(0), f64);
    }),
  );
}
