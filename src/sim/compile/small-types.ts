import { narrowHalf, widenHalf } from "./halves.ts";
import { f32, type LaneEmitter, s32, u32 } from "./lane.ts";
import { rectify } from "./rounding.ts";

const smallFloat = /^e(4m3|5m2)x2$/;

/** cvt to and from pairs of 8-bit floats; false when the instruction is another. */
export function convertSmallFloats(g: LaneEmitter): boolean {
  const [to = "", from = ""] = g.instruction.modifiers.slice(-2);
  if (smallFloat.test(to)) narrowPair(g, to, from);
  else if (smallFloat.test(from) && to === "f16x2") widenPair(g, from);
  else return false;
  return true;
}

/** Two floats, or the halves of one register, to nearest even; what is too large becomes the largest number. */
function narrowPair(g: LaneEmitter, to: string, from: string): void {
  const { c } = g;
  const name = from.slice(0, -2);
  if (!g.has("satfinite") || (from !== "f32" && name !== "f16" && name !== "bf16")) g.unsupported();
  const half = { ...u32, name };
  // The first operand, or the upper half, goes to the upper byte.
  for (const part of [1, 0]) {
    if (from === "f32") g.pushNumber(g.operand(2 - part), f32);
    else {
      g.push(g.operand(1), u32)
        .i32(16 * part)
        .op("i32_shr_u")
        .i32(0xffff)
        .op("i32_and");
      widenHalf(g, half);
    }
    if (g.has("relu")) rectify(g);
    g.call(to === "e4m3x2" ? "toE4m3" : "toE5m2");
    if (part === 1) c.i32(8).op("i32_shl");
  }
  c.op("i32_or");
  g.pop(g.operand(0), u32);
}

/** Every 8-bit float is a half. NaN becomes the canonical one, of no sign. */
function widenPair(g: LaneEmitter, from: string): void {
  const { c } = g;
  const nan = from === "e4m3x2" ? 0x7e : 0x7c;
  c.temp("i32", (byte) =>
    c.temp("i32", (magnitude) => {
      for (const part of [1, 0]) {
        g.push(g.operand(1), u32)
          .i32(8 * part)
          .op("i32_shr_u")
          .i32(255)
          .op("i32_and")
          .tee(byte)
          .i32(127)
          .op("i32_and")
          .set(magnitude);
        c.get(magnitude).i32(nan).op("i32_gt_u").block("if", "i32").i32(0x7fff).else();
        if (from === "e5m2x2") c.get(magnitude).i32(8).op("i32_shl");
        else {
          // Three bits of mantissa on an exponent that is 8 too small; subnormals are multiples of 2^-9.
          c.get(magnitude).i32(8).op("i32_lt_u").block("if", "i32");
          c.get(magnitude).op("f32_convert_i32_u").f32(0x3b000000n).op("f32_mul");
          narrowHalf(g, { ...u32, name: "f16" });
          c.else().get(magnitude).i32(7).op("i32_shl").i32(0x2000).op("i32_add").end();
        }
        if (g.has("relu")) c.i32(0).get(byte).i32(128).op("i32_and", "i32_eqz", "select");
        else c.get(byte).i32(128).op("i32_and").i32(8).op("i32_shl", "i32_or");
        c.end();
        if (part === 1) c.i32(16).op("i32_shl");
      }
      c.op("i32_or");
    }),
  );
  g.pop(g.operand(0), u32);
}

/** cvt.pack: two integers saturated to a narrow type side by side, the rest from a third. */
export function packIntegers(g: LaneEmitter): void {
  const { c } = g;
  const type = g.instruction.modifiers.find((m) => /^[us](2|4|8|16)$/.test(m)) ?? g.unsupported();
  const bits = Number(type.slice(1));
  const [low, high] = type.startsWith("s") ? [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] : [0, 2 ** bits - 1];
  const saturated = (operand: number): void => {
    c.temp("i32", (x) => {
      g.push(g.operand(operand), s32).set(x);
      c.get(x).i32(low).get(x).i32(low).op("i32_gt_s", "select").set(x);
      c.get(x).i32(high).get(x).i32(high).op("i32_lt_s", "select");
      c.i32(2 ** bits - 1).op("i32_and");
    });
  };
  saturated(2);
  saturated(1);
  c.i32(bits).op("i32_shl", "i32_or");
  if (bits < 16) {
    g.push(g.operand(3), u32)
      .i32(2 * bits)
      .op("i32_shl", "i32_or");
  }
  g.pop(g.operand(0), u32);
}
