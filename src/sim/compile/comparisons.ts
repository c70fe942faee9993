import type { PtxType } from "../ptx/types.ts";
import type { Opcode } from "../wasm/opcodes.ts";
import type { Emitters } from "./emitters.ts";
import { isHalf, widenHalf } from "./halves.ts";
import { type LaneEmitter, predicate, s32, u32 } from "./lane.ts";
import { flush, flushBelow, smallestNormal } from "./rounding.ts";

const integerComparisons: Record<string, string> = {
  eq: "eq",
  ne: "ne",
  lt: "lt",
  le: "le",
  gt: "gt",
  ge: "ge",
  lo: "lt",
  ls: "le",
  hi: "gt",
  hs: "ge",
};
/** Negations: an unordered comparison is the opposite ordered one that failed. */
const unordered: Record<string, string> = { equ: "ne", neu: "eq", ltu: "ge", leu: "gt", gtu: "le", geu: "lt" };
const floatComparisons = new Set(["eq", "ne", "lt", "le", "gt", "ge", "num", "nan", ...Object.keys(unordered)]);

/** Leaves 0 or 1: how the operands 1 and 2 compare; of packed halves, the lower or upper ones. */
function compare(g: LaneEmitter, type: PtxType, part: 0 | 1 = 0): void {
  const { c } = g;
  const [name = ""] = g.instruction.modifiers;
  if (type.kind !== "float") {
    const base = integerComparisons[name] ?? g.unsupported();
    const signed = type.kind === "signed" && !["lo", "ls", "hi", "hs"].includes(name);
    g.push(g.operand(1), type);
    g.push(g.operand(2), type);
    const suffix = base === "eq" || base === "ne" ? "" : signed ? "_s" : "_u";
    c.op(`${type.value}_${base}${suffix}` as Opcode);
    return;
  }
  if (!floatComparisons.has(name)) g.unsupported();
  const value = type.value === "f64" ? "f64" : "f32";
  c.temp(value, (a) =>
    c.temp(value, (b) => {
      [a, b].forEach((local, i) => {
        pushPart(g, i + 1, type, part);
        c.set(local);
      });
      compareNumbers(g, name, value, a, b);
    }),
  );
}

/** A float operand of a comparison, 16-bit ones as f32; flushed where the instruction says so. */
function pushPart(g: LaneEmitter, operand: number, type: PtxType, part: 0 | 1): void {
  const { c } = g;
  if (!isHalf(type)) {
    g.pushNumber(g.operand(operand), type);
    if (type.value === "f32" && g.has("ftz")) flush(g);
    return;
  }
  if (type.name.endsWith("x2")) {
    g.push(g.operand(operand), u32)
      .i32(16 * part)
      .op("i32_shr_u")
      .i32(0xffff)
      .op("i32_and");
  } else g.push(g.operand(operand), type);
  widenHalf(g, type);
  if (!g.has("ftz")) return;
  c.op("f64_promote_f32");
  flushBelow(g, smallestNormal.f16);
  c.op("f32_demote_f64");
}

function compareNumbers(g: LaneEmitter, name: string, value: "f32" | "f64", a: number, b: number): void {
  const { c } = g;
  const op = (of: string) =>
    c
      .get(a)
      .get(b)
      .op(`${value}_${of}` as Opcode);
  const isNumber = () =>
    c
      .get(a)
      .get(a)
      .op(`${value}_eq` as Opcode)
      .get(b)
      .get(b)
      .op(`${value}_eq` as Opcode, "i32_and");
  if (name === "num") isNumber();
  else if (name === "nan") isNumber().op("i32_eqz");
  else if (name === "ne") {
    op("lt");
    op("gt").op("i32_or");
  } else if (name === "equ") {
    op("lt");
    op("gt").op("i32_or", "i32_eqz");
  } else if (name === "neu") op("ne");
  else if (name in unordered) op(unordered[name]!).op("i32_eqz");
  else op(name);
}

/** Applies the instruction's and, or, xor with its predicate operand to the i32 on the stack. */
function combine(g: LaneEmitter): void {
  const name = (["and", "or", "xor"] as const).find((n) => g.has(n));
  if (name) g.push(g.operand(3), predicate).op(`i32_${name}`);
}

function setPredicate(g: LaneEmitter): void {
  const { c } = g;
  const to = g.operand(0);
  const type = g.type();
  if (type.name.endsWith("x2")) {
    setPredicates(g, type);
    return;
  }
  compare(g, type);
  if (to.kind !== "pair") {
    combine(g);
    g.pop(to, predicate);
    return;
  }
  c.temp("i32", (result) => {
    // Both results are formed before either is written: the combining predicate may be one of them.
    c.set(result).get(result).op("i32_eqz");
    combine(g);
    c.get(result);
    combine(g);
    g.pop(to.first, predicate);
    g.pop(to.second, predicate);
  });
}

/** Of packed halves: a predicate for the lower, one for the upper. */
function setPredicates(g: LaneEmitter, type: PtxType): void {
  const { c } = g;
  const to = g.operand(0);
  if (to.kind !== "pair") g.unsupported("it needs two results");
  for (const part of [1, 0] as const) {
    compare(g, type, part);
    combine(g);
  }
  c.temp("i32", (lower) => {
    c.set(lower);
    g.pop(to.second, predicate);
    c.get(lower);
    g.pop(to.first, predicate);
  });
}

/** 1.0 or 0 of a 16-bit type for the bit on the stack. */
function halfOfBit(g: LaneEmitter, type: PtxType): void {
  g.c.i32(type.name.startsWith("f16") ? 0x3c00 : 0x3f80).op("i32_mul");
}

function set(g: LaneEmitter): void {
  const { c } = g;
  const [toType, type] = [g.types().at(-2), g.types().at(-1)];
  if (!toType || !type) g.unsupported();
  if (type.name.endsWith("x2")) {
    if (toType.name !== type.name) g.unsupported();
    for (const part of [0, 1] as const) {
      compare(g, type, part);
      combine(g);
      halfOfBit(g, type);
    }
    c.i32(16).op("i32_shl", "i32_or");
    g.pop(g.operand(0), u32);
    return;
  }
  compare(g, type);
  combine(g);
  if (toType.value === "f32") c.op("f32_convert_i32_u");
  else if (toType.name === "f16" || toType.name === "bf16") halfOfBit(g, toType);
  else if (toType.kind === "float") g.unsupported();
  else c.temp("i32", (bit) => c.set(bit).i32(0).get(bit).op("i32_sub"));
  g.pop(g.operand(0), toType.kind === "float" ? toType : s32);
}

function selectByPredicate(g: LaneEmitter): void {
  const type = g.type();
  g.push(g.operand(1), type);
  g.push(g.operand(2), type);
  g.push(g.operand(3), predicate).op("select");
  g.pop(g.operand(0), type);
}

function selectBySign(g: LaneEmitter): void {
  const [type, condition] = [g.types().at(-2), g.types().at(-1)];
  if (!type || !condition) g.unsupported();
  g.push(g.operand(1), type);
  g.push(g.operand(2), type);
  g.push(g.operand(3), condition);
  if (condition.value === "f32") {
    if (g.has("ftz")) flush(g);
    g.c.f32(0n).op("f32_ge", "select");
  } else g.c.i32(0).op("i32_ge_s", "select");
  g.pop(g.operand(0), type);
}

/** testp: by the bits' magnitude. Zero counts as normal. */
function testFloat(g: LaneEmitter): void {
  const type = g.type();
  const { c } = g;
  const [name = ""] = g.instruction.modifiers;
  const wide = type.value === "f64";
  const prefix = wide ? "i64" : "i32";
  const [infinity, smallest] = wide ? [0x7ff0000000000000n, 0x0010000000000000n] : [0x7f800000n, 0x00800000n];
  const constant = (value: bigint) => (wide ? c.i64(value) : c.i32(Number(value)));
  const op = (of: string) => c.op(`${prefix}_${of}` as Opcode);
  c.temp(prefix, (magnitude) => {
    g.push(g.operand(1), type).op(wide ? "i64_reinterpret_f64" : "i32_reinterpret_f32");
    constant(wide ? 0x7fffffffffffffffn : 0x7fffffffn);
    op("and").set(magnitude);
    const against = (value: bigint, comparison: string) => {
      c.get(magnitude);
      constant(value);
      op(comparison);
    };
    if (name === "finite") against(infinity, "lt_u");
    else if (name === "infinite") against(infinity, "eq");
    else if (name === "number") against(infinity, "le_u");
    else if (name === "notanumber") against(infinity, "gt_u");
    else if (name === "normal") {
      against(infinity, "lt_u");
      against(smallest, "ge_u");
      c.get(magnitude);
      op("eqz").op("i32_or", "i32_and");
    } else if (name === "subnormal") {
      against(smallest, "lt_u");
      c.get(magnitude);
      op("eqz").op("i32_eqz", "i32_and");
    } else g.unsupported();
    g.pop(g.operand(0), predicate);
  });
}

export const comparisonEmitters: Emitters = {
  setp: setPredicate,
  set,
  selp: selectByPredicate,
  slct: selectBySign,
  testp: testFloat,
};
