import type { Emitters } from "./emitters.ts";
import { fieldEmitters } from "./fields.ts";
import { integerOp, logic, pushAll } from "./integers.ts";
import { type LaneEmitter, predicate, u32 } from "./lane.ts";

/** Amounts of the width and more shift everything out: PTX clamps them, WebAssembly takes them modulo the width. */
function shift(direction: "shl" | "shr"): (g: LaneEmitter) => void {
  return (g) => {
    const type = g.type();
    const { c } = g;
    const width = 8 * type.bytes;
    const arithmetic = direction === "shr" && type.kind === "signed";
    const amount = g.operand(2);
    const constant = (value: number) => (type.value === "i64" ? c.i64(BigInt(value)) : c.i32(value));
    const name = direction === "shl" ? "shl" : arithmetic ? "shr_s" : "shr_u";
    if (amount.kind === "integer") {
      const known = Number(BigInt.asUintN(32, amount.value));
      if (known >= width && !arithmetic) constant(0);
      else {
        g.push(g.operand(1), type);
        constant(Math.min(known, width - 1)).op(integerOp(type, name));
      }
    } else if (arithmetic) {
      g.push(g.operand(1), type);
      c.temp("i32", (n) => {
        g.push(amount, u32)
          .tee(n)
          .i32(width - 1)
          .get(n)
          .i32(width - 1)
          .op("i32_lt_u", "select");
      });
      if (type.value === "i64") c.op("i64_extend_i32_u");
      c.op(integerOp(type, name));
    } else {
      c.temp("i32", (n) => {
        g.push(amount, u32).set(n);
        g.push(g.operand(1), type).get(n);
        if (type.value === "i64") c.op("i64_extend_i32_u");
        c.op(integerOp(type, name));
        constant(0).get(n).i32(width).op("i32_lt_u", "select");
      });
    }
    g.pop(g.operand(0), type);
  };
}

/** shf: 64 bits out of two words, shifted; the upper word of a left shift, the lower one of a right shift. */
function funnel(g: LaneEmitter): void {
  const { c } = g;
  const left = g.has("l");
  g.push(g.operand(2), u32).op("i64_extend_i32_u").i64(32n).op("i64_shl");
  g.push(g.operand(1), u32).op("i64_extend_i32_u", "i64_or");
  c.temp("i32", (n) => {
    g.push(g.operand(3), u32).set(n);
    if (g.has("wrap")) c.get(n).i32(31).op("i32_and");
    else c.get(n).i32(32).get(n).i32(32).op("i32_lt_u", "select");
  });
  c.op("i64_extend_i32_u", left ? "i64_shl" : "i64_shr_u");
  if (left) c.i64(32n).op("i64_shr_u");
  c.op("i32_wrap_i64");
  g.pop(g.operand(0), u32);
}

function not(g: LaneEmitter): void {
  const type = g.type();
  pushAll(g, type, 1);
  if (type.kind === "predicate") g.c.op("i32_eqz");
  else if (type.value === "i64") g.c.i64(-1n).op("i64_xor");
  else g.c.i32(-1).op("i32_xor");
  g.pop(g.operand(0), type);
}

function count(name: "clz" | "popcnt"): (g: LaneEmitter) => void {
  return (g) => {
    const type = g.type();
    pushAll(g, type, 1);
    g.c.op(integerOp(type, name));
    if (type.value === "i64") g.c.op("i32_wrap_i64");
    g.pop(g.operand(0), u32);
  };
}

/** The highest bit that is not the sign's; 0xffffffff when there is none. `.shiftamt`: how far left it could move. */
function findBit(g: LaneEmitter): void {
  const type = g.type();
  const { c } = g;
  const wide = type.value === "i64";
  c.temp(type.value, (a) =>
    c.temp("i32", (zeros) => {
      g.push(g.operand(1), type).set(a);
      c.get(a);
      if (type.kind === "signed") {
        c.get(a);
        if (wide) c.i64(63n).op("i64_shr_s", "i64_xor");
        else c.i32(31).op("i32_shr_s", "i32_xor");
      }
      c.op(integerOp(type, "clz"));
      if (wide) c.op("i32_wrap_i64");
      c.set(zeros);
      const width = wide ? 64 : 32;
      if (g.has("shiftamt")) c.get(zeros);
      else
        c.i32(width - 1)
          .get(zeros)
          .op("i32_sub");
      c.i32(-1).get(zeros).i32(width).op("i32_lt_u", "select");
      g.pop(g.operand(0), u32);
    }),
  );
}

function reverse(g: LaneEmitter): void {
  const type = g.type();
  const { c } = g;
  const wide = type.value === "i64";
  const masks = [
    0x5555555555555555n,
    0x3333333333333333n,
    0x0f0f0f0f0f0f0f0fn,
    0x00ff00ff00ff00ffn,
    0x0000ffff0000ffffn,
  ];
  const constant = (value: bigint) => (wide ? c.i64(value) : c.i32(Number(BigInt.asIntN(32, value))));
  const op = (name: string) => c.op(integerOp(type, name));
  c.temp(type.value, (a) => {
    g.push(g.operand(1), type).set(a);
    masks.forEach((mask, i) => {
      const step = BigInt(1 << i);
      c.get(a);
      constant(mask);
      op("and");
      constant(step);
      op("shl");
      c.get(a);
      constant(step);
      op("shr_u");
      constant(mask);
      op("and");
      op("or");
      c.set(a);
    });
    c.get(a);
    if (wide) c.i64(32n).op("i64_rotl");
    g.pop(g.operand(0), type);
  });
}

/** prmt: four bytes chosen out of eight. */
function permute(g: LaneEmitter): void {
  const { c } = g;
  const modes: Record<string, (lane: number) => readonly number[]> = {
    f4e: (s) => [s, s + 1, s + 2, s + 3],
    b4e: (s) => [s, (s + 7) & 7, (s + 6) & 7, (s + 5) & 7],
    rc8: (s) => [s, s, s, s],
    ecl: (s) => [0, 1, 2, 3].map((i) => Math.max(i, s)),
    ecr: (s) => [0, 1, 2, 3].map((i) => Math.min(i, s)),
    rc16: (s) => [2 * (s & 1), 2 * (s & 1) + 1, 2 * (s & 1), 2 * (s & 1) + 1],
  };
  const mode = g.instruction.modifiers.find((m) => m in modes);
  c.temp("i64", (bytes) =>
    c.temp("i32", (selector) =>
      c.temp("i32", (result) =>
        c.temp("i32", (byte) => {
          g.push(g.operand(1), u32).op("i64_extend_i32_u");
          g.push(g.operand(2), u32).op("i64_extend_i32_u").i64(32n).op("i64_shl", "i64_or").set(bytes);
          g.push(g.operand(3), u32).set(selector);
          c.i32(0).set(result);
          for (let i = 0; i < 4; i++) {
            c.get(bytes);
            if (mode === undefined)
              c.get(selector)
                .i32(4 * i)
                .op("i32_shr_u")
                .i32(7)
                .op("i32_and");
            else {
              // The table of this mode, four bits for each of the selector's four values.
              let table = 0n;
              for (let s = 0; s < 4; s++) table |= BigInt(modes[mode]!(s)[i]! & 7) << BigInt(4 * s);
              c.i64(table).get(selector).i32(3).op("i32_and").i32(2).op("i32_shl");
              c.op("i64_extend_i32_u", "i64_shr_u").i64(7n).op("i64_and", "i32_wrap_i64");
            }
            c.i32(3).op("i32_shl", "i64_extend_i32_u", "i64_shr_u", "i32_wrap_i64").i32(255).op("i32_and").set(byte);
            if (mode === undefined) {
              // The selector's fourth bit replicates the sign of the byte.
              c.get(byte).op("i32_extend8_s").i32(7).op("i32_shr_s").i32(255).op("i32_and").get(byte);
              c.get(selector)
                .i32(8 << (4 * i))
                .op("i32_and", "select")
                .set(byte);
            }
            c.get(result)
              .get(byte)
              .i32(8 * i)
              .op("i32_shl", "i32_or")
              .set(result);
          }
          c.get(result);
          g.pop(g.operand(0), u32);
        }),
      ),
    ),
  );
}

/** lop3: any function of three bits, as the sum of its minterms. */
function logic3(g: LaneEmitter): void {
  const { c } = g;
  const table = g.operand(4);
  if (table.kind !== "integer") g.unsupported("the truth table must be a constant");
  const terms = Number(table.value);
  c.temp("i32", (a) =>
    c.temp("i32", (b) =>
      c.temp("i32", (d) => {
        [a, b, d].forEach((local, i) => {
          g.push(g.operand(i + 1), u32).set(local);
        });
        c.i32(0);
        for (let term = 0; term < 8; term++) {
          if (((terms >>> term) & 1) === 0) continue;
          c.i32(-1);
          [a, b, d].forEach((local, i) => {
            c.get(local);
            if (((term >>> (2 - i)) & 1) === 0) c.i32(-1).op("i32_xor");
            c.op("i32_and");
          });
          c.op("i32_or");
        }
        const to = g.operand(0);
        if (to.kind !== "pair") {
          g.pop(to, u32);
          return;
        }
        // Whether any bit is set, combined with a predicate.
        c.set(a).get(a).i32(0).op("i32_ne");
        const combine = (["or", "and", "xor"] as const).find((name) => g.has(name)) ?? g.unsupported();
        g.push(g.operand(5), predicate).op(`i32_${combine}`);
        g.pop(to.second, predicate);
        c.get(a);
        g.pop(to.first, u32);
      }),
    ),
  );
}

/** fns: where the n-th set bit is, counted up or down from a base; 0xffffffff when there is none. */
function findNth(g: LaneEmitter): void {
  const { c } = g;
  c.temp("i32", (mask) =>
    c.temp("i32", (position) =>
      c.temp("i32", (left) =>
        c.temp("i32", (step) => {
          g.push(g.operand(1), u32).set(mask);
          g.push(g.operand(2), u32).set(position);
          g.push(g.operand(3), u32).set(left);
          c.i32(1).i32(-1).get(left).i32(0).op("i32_ge_s", "select").set(step);
          // The bit at the base counts as the first; an offset of zero asks for that one alone.
          c.get(left).get(step).op("i32_mul").set(left);
          c.block("block").block("loop");
          c.get(position).i32(32).op("i32_lt_u", "i32_eqz").brIf(1);
          c.get(mask).get(position).op("i32_shr_u").i32(1).op("i32_and").block("if");
          c.get(left).i32(2).op("i32_lt_s").brIf(2).get(left).i32(1).op("i32_sub").set(left).end();
          c.get(left).op("i32_eqz").block("if").i32(-1).set(position).br(2).end();
          c.get(position).get(step).op("i32_add").set(position).br(0).end().end();
          c.get(position).i32(-1).get(position).i32(32).op("i32_lt_u", "select");
          g.pop(g.operand(0), u32);
        }),
      ),
    ),
  );
}

function conditionalNot(g: LaneEmitter): void {
  const type = g.type();
  pushAll(g, type, 1);
  g.c.op(integerOp(type, "eqz"));
  if (type.value === "i64") g.c.op("i64_extend_i32_u");
  g.pop(g.operand(0), type);
}

/** and, or, xor of predicates as well: those are 0 or 1. */
export const bitwiseEmitters: Emitters = {
  ...fieldEmitters,
  and: logic("and"),
  or: logic("or"),
  xor: logic("xor"),
  not,
  cnot: conditionalNot,
  shl: shift("shl"),
  shr: shift("shr"),
  shf: funnel,
  clz: count("clz"),
  popc: count("popcnt"),
  bfind: findBit,
  brev: reverse,
  prmt: permute,
  lop3: logic3,
  fns: findNth,
};
