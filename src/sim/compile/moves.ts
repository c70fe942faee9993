import { type PtxType, ptxType } from "../ptx/types.ts";
import type { Emitters } from "./emitters.ts";
import { type LaneEmitter, u32, u64 } from "./lane.ts";

/** mov, with its forms that pack several registers into one and unpack them. */
function move(g: LaneEmitter): void {
  const { c } = g;
  const type = g.type();
  const [to, from] = [g.operand(0), g.operand(1)];
  if (from.kind === "vector") {
    const part = partType(g, type, from.items.length);
    const whole = type.bytes === 8 ? u64 : u32;
    if (whole === u64) c.i64(0n);
    else c.i32(0);
    from.items.forEach((item, i) => {
      g.push(item, part);
      if (whole === u64)
        c.op("i64_extend_i32_u")
          .i64(BigInt(8 * part.bytes * i))
          .op("i64_shl", "i64_or");
      else c.i32(8 * part.bytes * i).op("i32_shl", "i32_or");
    });
    g.pop(to, whole);
    return;
  }
  if (to.kind === "vector") {
    const part = partType(g, type, to.items.length);
    const whole = type.bytes === 8 ? u64 : u32;
    c.temp(whole.value, (value) => {
      g.push(from, whole).set(value);
      to.items.forEach((item, i) => {
        c.get(value);
        if (whole === u64) c.i64(BigInt(8 * part.bytes * i)).op("i64_shr_u", "i32_wrap_i64");
        else c.i32(8 * part.bytes * i).op("i32_shr_u");
        if (part.bytes < 4) c.i32(part.bytes === 2 ? 0xffff : 0xff).op("i32_and");
        g.pop(item, part);
      });
    });
    return;
  }
  if (g.movesLoosely(to, from)) g.pushNumber(from, type);
  else g.push(from, type);
  g.pop(to, type);
}

function partType(g: LaneEmitter, type: PtxType, parts: number): PtxType {
  return ptxType(`u${(8 * type.bytes) / parts}`) ?? g.unsupported();
}

function trap(g: LaneEmitter): void {
  g.c.i32(g.site()).get(g.locals.lane);
  g.call("trap");
}

export const moveEmitters: Emitters = { mov: move, trap, brkpt: trap };
