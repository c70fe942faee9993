import { memoryMap } from "../memory-map.ts";
import type { Operand, StateSpace } from "../ptx/ast.ts";
import { type AccessKind, packAccess } from "./access.ts";
import { type LaneEmitter, u32, u64 } from "./lane.ts";

type AddressOperand = Extract<Operand, { kind: "address" }>;

export type AccessSpace = "global" | "shared" | "local" | "param";

/** The state space that an instruction names; without one the address is generic, and global memory is the fast path. */
export function spaceOf(g: LaneEmitter): AccessSpace {
  for (const modifier of g.instruction.modifiers) {
    const space = modifier.split("::", 1)[0] as StateSpace;
    if (space === "global" || space === "const") return "global";
    if (space === "shared" || space === "local" || space === "param") return space;
  }
  return "global";
}

function addressOperand(g: LaneEmitter, operand: number): AddressOperand {
  const found = g.operand(operand);
  if (found.kind !== "address") g.unsupported("it needs an address in brackets");
  return found;
}

/**
 * Leaves the linear address (i32) of an access of `bytes` bytes, a power of two, and returns what the load or store must
 * add to it. Misaligned accesses and those outside of the space call out, which throws unless the address is generic
 * or another device's. Alignment and bound are one comparison: rotating the address right by log2(bytes) makes what was
 * misaligned huge. Code with checks reports the access as one of `kind`, where that is given.
 */
export function pushAddress(
  g: LaneEmitter,
  operand: number,
  space: AccessSpace,
  bytes: number,
  kind: AccessKind | undefined,
): number {
  const address = addressOperand(g, operand);
  if (space === "param") return pushParameter(g, address);
  if (space === "global") pushGlobal(g, address, bytes);
  else pushWindow(g, address, space, bytes);
  const offset = space === "shared" ? memoryMap.shared : 0;
  if (g.context.checked && kind) {
    g.c.temp("i32", (x) => {
      g.c.tee(x);
      observeAccess(g, x, offset, () => g.c.i32(packAccess(kind, bytes)));
    });
  }
  return offset;
}

/** Reports an access at a local's linear address plus `offset` to the checks; `pushAccess` leaves what packAccess makes. */
export function observeAccess(g: LaneEmitter, address: number, offset: number, pushAccess: () => void): void {
  const { c } = g;
  c.get(address);
  if (offset !== 0) c.i32(offset).op("i32_add");
  pushAccess();
  c.i32(g.site()).get(g.locals.lane);
  g.call("check");
}

function log2(bytes: number): number {
  return 31 - Math.clz32(bytes);
}

function pushGlobal(g: LaneEmitter, { base, offset }: AddressOperand, bytes: number): void {
  const { c, locals, context } = g;
  const shift = log2(bytes);
  c.temp("i64", (x) => {
    if (base && "register" in base) {
      g.push({ kind: "register", register: base.register }, u64);
      c.i64(BigInt(offset) - context.deviceBase)
        .op("i64_add")
        .set(x);
    } else {
      const known = base ? context.symbolAddress(base.variable) : 0n;
      c.i64(known + BigInt(offset) - context.deviceBase).set(x);
    }
    c.get(x);
    if (shift > 0) c.i64(BigInt(shift)).op("i64_rotr");
    c.get(locals.limits[shift]!).op("i64_ge_u").block("if", "i32");
    c.get(x).i64(context.deviceBase).op("i64_add").i32(g.site()).get(locals.lane).get(locals.frame);
    g.call("resolve");
    c.else().get(x).op("i32_wrap_i64").end();
  });
}

/** Kernel parameters: with a constant address always inside. */
function pushParameter(g: LaneEmitter, { base, offset }: AddressOperand): number {
  const { c } = g;
  if (base && "register" in base) g.unsupported("a parameter addressed by a register");
  c.base();
  return memoryMap.parameters + Number(base ? g.context.symbolAddress(base.variable) : 0n) + offset;
}

function pushWindow(g: LaneEmitter, { base, offset }: AddressOperand, space: "shared" | "local", bytes: number): void {
  const { c, locals, context } = g;
  const shift = log2(bytes);
  c.temp("i32", (x) => {
    if (base && "register" in base) {
      g.push({ kind: "register", register: base.register }, u32);
      if (offset !== 0) c.i32(offset).op("i32_add");
    } else c.i32(Number(base ? context.symbolAddress(base.variable) : 0n) + offset);
    c.tee(x);
    if (shift > 0) c.i32(shift).op("i32_rotr");
    if (space === "shared") c.get(locals.sharedLimits[shift]!);
    else c.i32((context.localBytes + 15) >>> shift);
    c.op("i32_ge_u").block("if").get(x).i32(g.site()).get(locals.lane);
    g.call("fault").end().get(x);
    if (space === "local") c.get(locals.frame);
    else c.base();
    c.op("i32_add");
  });
}
