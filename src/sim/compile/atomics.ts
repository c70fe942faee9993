import { memoryMap } from "../memory-map.ts";
import type { PtxType } from "../ptx/types.ts";
import type { Opcode } from "../wasm/opcodes.ts";
import { pushAddress, spaceOf } from "./addresses.ts";
import type { Emitters } from "./emitters.ts";
import { narrowHalf, widenHalf } from "./halves.ts";
import { integerOp } from "./integers.ts";
import { type LaneEmitter, u32 } from "./lane.ts";
import { loadOp, storeOp, vectorLength } from "./memory-ops.ts";
import { canonicalize } from "./nan.ts";
import { flush } from "./rounding.ts";

/** What an atomic operation leaves in memory, given the old value in a local; on the stack. */
function atomicResult(g: LaneEmitter, name: string, type: PtxType, old: number, first: number, address: number): void {
  const { c } = g;
  const sign = type.kind === "signed" ? "s" : "u";
  const value = () => g.push(g.operand(first), type);
  switch (name) {
    case "exch":
      value();
      return;
    case "add":
      addAtomically(g, type, old, first, address);
      return;
    case "and":
    case "or":
    case "xor":
      c.get(old);
      value().op(integerOp(type, name));
      return;
    case "min":
    case "max":
      if (type.kind === "float") g.unsupported();
      c.get(old);
      value().get(old);
      value().op(integerOp(type, `${name === "min" ? "lt" : "gt"}_${sign}`), "select");
      return;
    case "inc":
      // ((old >= b) ? 0 : old + 1)
      c.i32(0).get(old).i32(1).op("i32_add").get(old);
      value().op("i32_ge_u", "select");
      return;
    case "dec":
      // ((old == 0 || old > b) ? b : old - 1)
      value().get(old).i32(1).op("i32_sub").get(old).op("i32_eqz").get(old);
      value().op("i32_gt_u", "i32_or", "select");
      return;
    case "cas":
      // Values are compared as bits: cas exists for .b types only.
      g.push(g.operand(first + 1), type)
        .get(old)
        .get(old);
      value().op(integerOp(type, "eq"), "select");
      return;
    default:
      g.unsupported();
  }
}

/**
 * Leaves what `inShared` does for sums in shared memory, and `inGlobal` for others. Only for a generic address, which is
 * a linear one by now, that is seen when the kernel runs.
 */
function bySpace(g: LaneEmitter, address: number, type: PtxType, inShared: () => void, inGlobal: () => void): void {
  const { c } = g;
  if (g.has("shared")) inShared();
  else if (g.has("global")) inGlobal();
  else {
    c.get(address).base().op("i32_sub").i32(memoryMap.shared).op("i32_sub").i32(memoryMap.sharedCapacity);
    c.op("i32_lt_u").block("if", type.value);
    inShared();
    c.else();
    inGlobal();
    c.end();
  }
}

/** Sums of f32 in global memory flush subnormals, in shared memory they do not. */
function addSingle(g: LaneEmitter, type: PtxType, old: number, first: number, flushes: boolean): void {
  const { c } = g;
  c.get(old);
  if (flushes) flush(g);
  g.push(g.operand(first), type);
  if (flushes) flush(g);
  c.op("f32_add");
  if (flushes) flush(g);
  canonicalize(c);
}

/** NaN in f64: in shared memory as add.f64 has it, in global memory the operand's before memory's, as it is. */
function addDouble(g: LaneEmitter, type: PtxType, old: number, first: number, inShared: boolean): void {
  const { c } = g;
  c.temp("f64", (added) =>
    c.temp("f64", (sum) => {
      g.push(g.operand(first), type).tee(added).get(old).op("f64_add").set(sum);
      if (inShared) {
        c.get(sum).get(old).get(added).get(added);
        g.call("chooseNaN");
        return;
      }
      c.get(sum).get(sum).op("f64_eq").block("if", "f64").get(sum).else();
      c.get(added).get(added).op("f64_ne").block("if", "f64").get(added).else();
      c.get(old).f64(0xfff8000000000000n).get(old).get(old).op("f64_ne", "select").end().end();
    }),
  );
}

function addAtomically(g: LaneEmitter, type: PtxType, old: number, first: number, address: number): void {
  const { c } = g;
  const value = () => g.push(g.operand(first), type);
  if (type.value === "f32" || type.value === "f64") {
    const add = (inShared: boolean): void => {
      if (type.value === "f32") addSingle(g, type, old, first, !inShared);
      else addDouble(g, type, old, first, inShared);
    };
    bySpace(
      g,
      address,
      type,
      () => add(true),
      () => add(false),
    );
    return;
  }
  if (type.kind !== "float") {
    c.get(old);
    value().op(`${type.value}_add` as Opcode);
    return;
  }
  const parts = type.bytes / 2;
  c.temp("i32", (sum) => {
    c.i32(0).set(sum);
    for (let part = 0; part < parts; part++) {
      const half = () => {
        c.i32(16 * part)
          .op("i32_shr_u")
          .i32(0xffff)
          .op("i32_and");
        widenHalf(g, type);
        c.op("f64_promote_f32");
      };
      c.get(old);
      half();
      g.push(g.operand(first), u32);
      half();
      g.call("oddAdd");
      g.call("demoteOdd");
      narrowHalf(g, type);
      c.i32(16 * part)
        .op("i32_shl")
        .get(sum)
        .op("i32_or")
        .set(sum);
    }
    c.get(sum);
  });
}

const atomicNames = new Set(["exch", "add", "and", "or", "xor", "min", "max", "inc", "dec", "cas"]);

/** Lanes run one after another, so that reading, computing and writing are one step. */
function atomic(hasResult: boolean): (g: LaneEmitter) => void {
  return (g) => {
    const { c } = g;
    const type = g.type();
    const name = g.instruction.modifiers.find((m) => atomicNames.has(m)) ?? g.unsupported();
    if (vectorLength(g) !== 1) g.unsupported();
    const at = hasResult ? 1 : 0;
    const offset = pushAddress(g, at, spaceOf(g), type.bytes, "atomic");
    c.temp("i32", (address) =>
      c.temp(type.value, (old) => {
        c.tee(address).memory(loadOp(type), offset).set(old);
        c.get(address);
        atomicResult(g, name, type, old, at + 1, address);
        c.memory(storeOp(type), offset);
        if (!hasResult) return;
        c.get(old);
        g.pop(g.operand(0), type);
      }),
    );
  };
}

export const atomicEmitters: Emitters = { atom: atomic(true), red: atomic(false) };
