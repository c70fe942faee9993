import type { Emitters } from "./emitters.ts";
import { type LaneEmitter, u32, u64 } from "./lane.ts";

/** Position and length of a bit field: the low bytes of two operands, for 64 bits what is below 256 of them. */
function fieldBounds(g: LaneEmitter, operand: number, position: number, length: number): void {
  const { c } = g;
  [position, length].forEach((local, i) => {
    g.push(g.operand(operand + i), u32);
    if (g.type().bytes === 8) c.set(local).get(local).i32(255).get(local).i32(255).op("i32_lt_u", "select").set(local);
    else c.i32(255).op("i32_and").set(local);
  });
}

/** A 64-bit mask of `length` low bits, all ones from 64 on; on the stack. */
function lowMask(g: LaneEmitter, length: number): void {
  const { c } = g;
  c.i64(-1n).i64(1n).get(length).op("i64_extend_i32_u", "i64_shl").i64(1n).op("i64_sub");
  c.get(length).i32(64).op("i32_ge_u", "select");
}

/** The i64 on the stack shifted by the i32 local: right or left, nothing left of it from 64 on. */
function shiftOut(g: LaneEmitter, name: "i64_shl" | "i64_shr_u", amount: number): void {
  g.c.get(amount).op("i64_extend_i32_u", name).i64(0n).get(amount).i32(64).op("i32_lt_u", "select");
}

function extractField(g: LaneEmitter): void {
  const type = g.type();
  const { c } = g;
  const msb = 8 * type.bytes - 1;
  const signed = type.kind === "signed";
  c.temp("i64", (a) =>
    c.temp("i32", (position) =>
      c.temp("i32", (length) => {
        g.push(g.operand(1), type);
        if (type.bytes === 4) c.op(signed ? "i64_extend_i32_s" : "i64_extend_i32_u");
        c.set(a);
        fieldBounds(g, 2, position, length);
        // Bits beyond the top are the sign for signed types, else zero.
        c.get(a);
        if (signed) {
          c.get(position).i32(63).get(position).i32(63).op("i32_lt_u", "select");
          c.op("i64_extend_i32_u", "i64_shr_s");
        } else shiftOut(g, "i64_shr_u", position);
        lowMask(g, length);
        c.op("i64_and");
        if (signed) {
          // The field's own top bit, or the operand's where the field reaches beyond: min(position + length - 1, msb).
          c.get(a).get(position).get(length).op("i32_add").i32(1).op("i32_sub").i32(msb);
          c.get(position).get(length).op("i32_add").i32(1).op("i32_sub").i32(msb).op("i32_lt_u", "select");
          c.op("i64_extend_i32_u", "i64_shr_u").i64(1n).op("i64_and").i64(0n).op("i64_ne");
          c.get(length).i32(0).op("i32_ne", "i32_and").block("if", "i64");
          lowMask(g, length);
          c.i64(-1n).op("i64_xor").else().i64(0n).end().op("i64_or");
        }
        if (type.bytes === 4) c.op("i32_wrap_i64");
        g.pop(g.operand(0), type);
      }),
    ),
  );
}

/** bfi: the low bits of a into b. */
function insertField(g: LaneEmitter): void {
  const type = g.type();
  const { c } = g;
  const wide = type.bytes === 8 ? u64 : u32;
  const widen = () => (type.bytes === 4 ? c.op("i64_extend_i32_u") : c);
  c.temp("i64", (mask) =>
    c.temp("i32", (position) =>
      c.temp("i32", (length) => {
        fieldBounds(g, 3, position, length);
        lowMask(g, length);
        shiftOut(g, "i64_shl", position);
        c.set(mask);
        g.push(g.operand(1), wide);
        widen();
        shiftOut(g, "i64_shl", position);
        c.get(mask).op("i64_and");
        g.push(g.operand(2), wide);
        widen().get(mask).i64(-1n).op("i64_xor", "i64_and", "i64_or");
        if (type.bytes === 4) c.op("i32_wrap_i64");
        g.pop(g.operand(0), wide);
      }),
    ),
  );
}

function bitMask(g: LaneEmitter): void {
  const { c } = g;
  const wraps = g.has("wrap");
  c.temp("i32", (position) =>
    c.temp("i32", (length) => {
      g.push(g.operand(1), u32).set(position);
      g.push(g.operand(2), u32).set(length);
      if (wraps) for (const local of [position, length]) c.get(local).i32(31).op("i32_and").set(local);
      lowMask(g, length);
      shiftOut(g, "i64_shl", position);
      c.op("i32_wrap_i64");
      g.pop(g.operand(0), u32);
    }),
  );
}

/** szext: the low bits of a, as many as b says, extended to the word by zeros or their sign. */
function extendFrom(g: LaneEmitter): void {
  const { c } = g;
  const signed = g.type().kind === "signed";
  c.temp("i32", (length) => {
    g.push(g.operand(2), u32).set(length);
    if (g.has("wrap")) c.get(length).i32(31).op("i32_and").set(length);
    else c.get(length).i32(32).get(length).i32(32).op("i32_lt_u", "select").set(length);
    // In 64 bits: a shift by the word's whole width leaves nothing, as it should for no bits at all.
    const shift = () => c.i32(32).get(length).op("i32_sub", "i64_extend_i32_u");
    g.push(g.operand(1), u32).op("i64_extend_i32_u");
    shift().op("i64_shl", "i64_extend32_s");
    if (!signed) c.i64(0xffffffffn).op("i64_and");
    shift().op(signed ? "i64_shr_s" : "i64_shr_u", "i32_wrap_i64");
    g.pop(g.operand(0), u32);
  });
}

/** Bit fields: taken out, put in, made and extended. */
export const fieldEmitters: Emitters = {
  bfe: extractField,
  bfi: insertField,
  bmsk: bitMask,
  szext: extendFrom,
};
