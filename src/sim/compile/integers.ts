import type { PtxType } from "../ptx/types.ts";
import type { Opcode } from "../wasm/opcodes.ts";
import type { Emitters } from "./emitters.ts";
import { type LaneEmitter, s32, u32, u64 } from "./lane.ts";

type Prefix = "i32" | "i64";

export function integerOp(type: PtxType, name: string): Opcode {
  return `${type.value}_${name}` as Opcode;
}

/** The type of the same sign and twice the width. */
function wider(type: PtxType): PtxType {
  return type.bytes === 4 ? { ...u64, kind: type.kind } : { ...u32, kind: type.kind };
}

export function pushAll(g: LaneEmitter, type: PtxType, ...operands: number[]): void {
  for (const i of operands) g.push(g.operand(i), type);
}

function binary(g: LaneEmitter, name: string): void {
  const type = g.type();
  pushAll(g, type, 1, 2);
  g.c.op(integerOp(type, name));
  g.pop(g.operand(0), type);
}

export function logic(name: string): (g: LaneEmitter) => void {
  return (g) => binary(g, name);
}

/** Clamps the i64 on the stack to the range of a 32-bit signed number, and narrows it. */
function saturate(g: LaneEmitter): void {
  g.c.op("f64_convert_i64_s").saturate("i32_trunc_sat_f64_s");
}

export function addOrSubtract(name: "add" | "sub"): (g: LaneEmitter) => void {
  return (g) => {
    const { c } = g;
    if (g.has("sat")) {
      const wide = { ...u64, kind: "signed" } as const;
      g.push(g.operand(1), s32);
      c.op("i64_extend_i32_s");
      g.push(g.operand(2), s32);
      c.op("i64_extend_i32_s", `${wide.value}_${name}` as Opcode);
      saturate(g);
      g.pop(g.operand(0), s32);
      return;
    }
    if (g.has("cc")) carrying(g, name, false);
    else binary(g, name);
  };
}

/** addc and subc, and the forms that set the carry. For subtraction the flag is the borrow. */
export function withCarry(name: "add" | "sub"): (g: LaneEmitter) => void {
  return (g) => carrying(g, name, true);
}

function carrying(g: LaneEmitter, name: "add" | "sub", uses: boolean): void {
  const type = g.type();
  g.push(g.operand(1), type);
  addCarrying(g, type, name, 2, uses);
}

/** Adds an operand to the number on the stack, or subtracts it, with what the carry holds and into it. */
function addCarrying(g: LaneEmitter, type: PtxType, name: "add" | "sub", operand: number, uses: boolean): void {
  const { c } = g;
  const op = (of: string) => integerOp(type, of);
  const wrapped = op(name === "add" ? "lt_u" : "gt_u");
  c.temp(type.value, (a) =>
    c.temp(type.value, (sum) =>
      c.temp("i32", (carry) => {
        c.tee(a);
        g.push(g.operand(operand), type).op(op(name)).tee(sum);
        c.get(a).op(wrapped).set(carry);
        if (uses) {
          c.get(sum).set(a);
          c.get(sum).get(g.carry);
          if (type.value === "i64") c.op("i64_extend_i32_u");
          c.op(op(name)).tee(sum).get(a).op(wrapped).get(carry).op("i32_or").set(carry);
        }
        if (g.has("cc")) c.get(carry).set(g.carry);
        c.get(sum);
        g.pop(g.operand(0), type);
      }),
    ),
  );
}

/** The product on the stack: lower half, upper half, or the whole in twice the width. */
function product(g: LaneEmitter, type: PtxType): PtxType {
  const { c } = g;
  if (g.has("wide")) {
    const wide = wider(type);
    for (const i of [1, 2]) {
      g.push(g.operand(i), type);
      if (type.bytes === 4) c.op(type.kind === "signed" ? "i64_extend_i32_s" : "i64_extend_i32_u");
    }
    c.op(integerOp(wide, "mul"));
    return wide;
  }
  if (!g.has("hi")) {
    pushAll(g, type, 1, 2);
    c.op(integerOp(type, "mul"));
    return type;
  }
  if (type.bytes === 8) {
    pushAll(g, type, 1, 2);
    g.call("multiplyHigh");
    if (type.kind !== "signed") return type;
    // Signed: less b where a is negative, and a where b is.
    for (const [x, y] of [
      [1, 2],
      [2, 1],
    ] as const) {
      g.push(g.operand(x), type);
      c.i64(63n).op("i64_shr_s");
      g.push(g.operand(y), type);
      c.op("i64_and", "i64_sub");
    }
    return type;
  }
  for (const i of [1, 2]) {
    g.push(g.operand(i), type);
    c.op(type.kind === "signed" ? "i64_extend_i32_s" : "i64_extend_i32_u");
  }
  c.op("i64_mul")
    .i64(BigInt(8 * type.bytes))
    .op("i64_shr_s", "i32_wrap_i64");
  return type;
}

export function multiply(g: LaneEmitter): void {
  g.pop(g.operand(0), product(g, g.type()));
}

export function multiplyAdd(g: LaneEmitter): void {
  const type = g.type();
  const result = product(g, type);
  if (g.has("cc")) {
    addCarrying(g, result, "add", 3, false);
    return;
  }
  if (g.has("sat")) {
    g.c.op("i64_extend_i32_s");
    g.push(g.operand(3), type).op("i64_extend_i32_s", "i64_add");
    saturate(g);
  } else g.push(g.operand(3), result).op(integerOp(result, "add"));
  g.pop(g.operand(0), result);
}

/** madc: a product, or its upper half, and an addend and the carry. */
function multiplyAddWithCarry(g: LaneEmitter): void {
  addCarrying(g, product(g, g.type()), "add", 3, true);
}

/** mul24 and mad24: 24-bit factors, the lower or upper 32 of 48 bits. */
export function multiply24(adds: boolean): (g: LaneEmitter) => void {
  return (g) => {
    const type = g.type();
    const { c } = g;
    const signed = type.kind === "signed";
    for (const i of [1, 2]) {
      g.push(g.operand(i), type)
        .i32(8)
        .op("i32_shl")
        .i32(8)
        .op(signed ? "i32_shr_s" : "i32_shr_u");
      c.op(signed ? "i64_extend_i32_s" : "i64_extend_i32_u");
    }
    c.op("i64_mul");
    if (g.has("hi")) c.i64(16n).op("i64_shr_s");
    if (g.has("sat")) {
      g.push(g.operand(3), type).op("i64_extend_i32_s", "i64_add");
      saturate(g);
    } else {
      c.op("i32_wrap_i64");
      if (adds) g.push(g.operand(3), type).op("i32_add");
    }
    g.pop(g.operand(0), type);
  };
}

/** Division by zero gives all ones as quotient and as remainder, as hardware does; PTX leaves it open. */
export function divide(name: "div" | "rem"): (g: LaneEmitter) => void {
  return (g) => {
    const type = g.type();
    const { c } = g;
    const signed = type.kind === "signed";
    const constant = (value: number) => (type.value === "i64" ? c.i64(BigInt(value)) : c.i32(value));
    c.temp(type.value, (a) =>
      c.temp(type.value, (b) => {
        g.push(g.operand(1), type).set(a);
        g.push(g.operand(2), type).tee(b).op(integerOp(type, "eqz")).block("if", type.value);
        constant(-1);
        c.else();
        if (signed) {
          // The quotient of the most negative number by -1 wraps around; WebAssembly would trap.
          c.get(b);
          constant(-1).op(integerOp(type, "eq")).block("if", type.value);
          constant(0);
          if (name === "div") c.get(a).op(integerOp(type, "sub"));
          c.else();
        }
        c.get(a)
          .get(b)
          .op(integerOp(type, `${name}_${signed ? "s" : "u"}`));
        if (signed) c.end();
        c.end();
        g.pop(g.operand(0), type);
      }),
    );
  };
}

export function minOrMax(g: LaneEmitter, name: "min" | "max"): void {
  const type = g.type();
  const { c } = g;
  const sign = type.kind === "signed" ? "s" : "u";
  c.temp(type.value, (a) =>
    c.temp(type.value, (b) => {
      g.push(g.operand(1), type).tee(a);
      g.push(g.operand(2), type).tee(b);
      c.get(a)
        .get(b)
        .op(integerOp(type, `${name === "min" ? "lt" : "gt"}_${sign}`), "select");
      if (g.has("relu")) c.set(a).get(a).i32(0).get(a).i32(0).op("i32_gt_s", "select");
      g.pop(g.operand(0), type);
    }),
  );
}

export function negate(g: LaneEmitter): void {
  const type = g.type();
  if (type.value === "i64") g.c.i64(0n);
  else g.c.i32(0);
  pushAll(g, type, 1);
  g.c.op(integerOp(type, "sub"));
  g.pop(g.operand(0), type);
}

export function absolute(g: LaneEmitter): void {
  const type = g.type();
  const { c } = g;
  const prefix = type.value as Prefix;
  c.temp(prefix, (a) => {
    g.push(g.operand(1), type).tee(a).get(a);
    if (prefix === "i64") c.i64(63n).op("i64_shr_s", "i64_xor").get(a).i64(63n).op("i64_shr_s", "i64_sub");
    else c.i32(31).op("i32_shr_s", "i32_xor").get(a).i32(31).op("i32_shr_s", "i32_sub");
  });
  g.pop(g.operand(0), type);
}

function absoluteDifference(g: LaneEmitter): void {
  const type = g.type();
  const { c } = g;
  const less = integerOp(type, type.kind === "signed" ? "lt_s" : "lt_u");
  c.temp(type.value, (a) =>
    c.temp(type.value, (b) => {
      g.push(g.operand(1), type).set(a);
      g.push(g.operand(2), type).set(b);
      c.get(b).get(a).op(integerOp(type, "sub")).get(a).get(b).op(integerOp(type, "sub"));
      c.get(a).get(b).op(less, "select");
      g.push(g.operand(3), type).op(integerOp(type, "add"));
      g.pop(g.operand(0), type);
    }),
  );
}

/** dp4a: four products of bytes and a sum; dp2a: two of half-words by bytes. */
function dotProduct(parts: 4 | 2): (g: LaneEmitter) => void {
  return (g) => {
    const [aType, bType] = [g.types().at(-2)!, g.types().at(-1)!];
    const { c } = g;
    const bits = 32 / parts;
    const extract = (operand: number, type: PtxType, shift: number, width: number) => {
      g.push(g.operand(operand), u32)
        .i32(32 - width - shift)
        .op("i32_shl")
        .i32(32 - width);
      c.op(type.kind === "signed" ? "i32_shr_s" : "i32_shr_u");
    };
    g.push(g.operand(3), u32);
    const second = parts === 2 && g.has("hi") ? 16 : 0;
    for (let i = 0; i < parts; i++) {
      extract(1, aType, bits * i, bits);
      extract(2, bType, second + 8 * i, 8);
      c.op("i32_mul", "i32_add");
    }
    g.pop(g.operand(0), u32);
  };
}

export const integerEmitters: Emitters = {
  addc: withCarry("add"),
  subc: withCarry("sub"),
  madc: multiplyAddWithCarry,
  rem: divide("rem"),
  mul24: multiply24(false),
  mad24: multiply24(true),
  sad: absoluteDifference,
  dp4a: dotProduct(4),
  dp2a: dotProduct(2),
};
