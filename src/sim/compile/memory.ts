import { localWindow, sharedWindow } from "../memory-map.ts";
import type { Operand } from "../ptx/ast.ts";
import { packAccess } from "./access.ts";
import { observeAccess, pushAddress, spaceOf } from "./addresses.ts";
import { atomicEmitters } from "./atomics.ts";
import type { Emitters } from "./emitters.ts";
import { type LaneEmitter, predicate, u32, u64 } from "./lane.ts";
import { loadOp, storeOp, vectorLength } from "./memory-ops.ts";

function elements(g: LaneEmitter, operand: Operand, length: number): readonly Operand[] {
  const items = operand.kind === "vector" ? operand.items : [operand];
  return items.length === length ? items : g.unsupported(`${length} elements expected, ${items.length} found`);
}

/** Vectors of 32 bytes are aligned and checked like two of 16. */
function load(g: LaneEmitter): void {
  const { c } = g;
  const type = g.type();
  const length = vectorLength(g);
  const items = elements(g, g.operand(0), length);
  const bytes = type.bytes * length;
  if (bytes > 16) g.unsupported();
  const offset = pushAddress(g, 1, spaceOf(g), bytes, "read");
  c.temp("i32", (address) => {
    c.set(address);
    items.forEach((item, i) => {
      c.get(address).memory(loadOp(type), offset + i * type.bytes);
      g.pop(item, type);
    });
  });
}

function store(g: LaneEmitter): void {
  const { c } = g;
  const type = g.type();
  const length = vectorLength(g);
  const items = elements(g, g.operand(1), length);
  const bytes = type.bytes * length;
  if (bytes > 16) g.unsupported();
  const offset = pushAddress(g, 0, spaceOf(g), bytes, "write");
  c.temp("i32", (address) => {
    c.set(address);
    items.forEach((item, i) => {
      c.get(address);
      g.push(item, type).memory(storeOp(type), offset + i * type.bytes);
    });
  });
}

/**
 * cp.async copies at once, which is one of the orders that PTX allows; waiting for it is then nothing. Bytes beyond
 * the source size are zero.
 */
function copyAsync(g: LaneEmitter): void {
  const { c } = g;
  const { modifiers, operands } = g.instruction;
  if (modifiers[0] !== "async" || modifiers.includes("bulk") || modifiers.includes("mbarrier")) g.unsupported();
  if (modifiers.some((m) => m.startsWith("commit_group") || m.startsWith("wait_"))) {
    if (g.context.checked) orderCopies(g);
    return;
  }
  const size = operands[2];
  if (size?.kind !== "integer") g.unsupported("the copy size must be a constant");
  const bytes = Number(size.value);
  const source = operands[3];
  const wide = bytes >= 8;
  const words = Array.from({ length: bytes / (wide ? 8 : 4) }, (_, i) => i * (wide ? 8 : 4));
  const [loadWord, storeWord] = wide ? (["i64_load", "i64_store"] as const) : (["i32_load", "i32_store"] as const);
  const offset = pushAddress(g, 0, "shared", bytes, "asyncWrite");
  c.temp("i32", (to) =>
    c.temp("i32", (count) =>
      c.temp("i32", (from) => {
        c.set(to);
        if (source?.kind === "register" && source.register.type === "pred") {
          // ignore-src: nothing is read where the predicate holds.
          c.i32(0).i32(bytes);
          g.push(source, predicate).op("select").set(count);
        } else if (source) g.push(source, u32).set(count);
        else c.i32(bytes).set(count);
        c.get(count).i32(bytes).op("i32_ge_u").block("if");
        pushAddress(g, 1, "global", bytes, "read");
        c.set(from);
        for (const at of words)
          c.get(to)
            .get(from)
            .memory(loadWord, at)
            .memory(storeWord, offset + at);
        c.else();
        for (const at of words) {
          c.get(to);
          if (wide) c.i64(0n);
          else c.i32(0);
          c.memory(storeWord, offset + at);
        }
        c.get(count).block("if");
        pushAddress(g, 1, "global", bytes, undefined);
        c.set(from);
        if (g.context.checked) {
          observeAccess(g, from, 0, () => c.get(count).i32(packAccess("read", 0)).op("i32_or"));
        }
        c.block("loop").get(count).i32(1).op("i32_sub").set(count);
        c.get(to).get(count).op("i32_add").get(from).get(count).op("i32_add").memory("i32_load8_u");
        c.memory("i32_store8", offset).get(count).brIf(0).end();
        c.end().end();
      }),
    ),
  );
}

/** Tells the checks that a group of copies ends, and which ones the thread has waited for. */
function orderCopies(g: LaneEmitter): void {
  const { c, locals } = g;
  const [operand] = g.instruction.operands;
  const newest = operand?.kind === "integer" ? Number(operand.value) : 0;
  if (!g.has("wait_group")) {
    c.i32(-1).get(locals.lane);
    g.call("copies");
  }
  if (!g.has("commit_group")) {
    c.i32(newest).get(locals.lane);
    g.call("copies");
  }
}

/** Between generic addresses and those of a state space. Global addresses are generic ones. */
function convertAddress(g: LaneEmitter): void {
  const { c } = g;
  const type = g.type();
  const to = g.has("to");
  const window = g.has("shared") ? sharedWindow : g.has("local") ? localWindow : 0n;
  const source = g.operand(1);
  g.push(source, type);
  if (window !== 0n) {
    if (type.bytes !== 8) g.unsupported();
    c.i64(window).op(to ? "i64_sub" : "i64_add");
  }
  g.pop(g.operand(0), type);
}

function isSpace(g: LaneEmitter): void {
  const { c } = g;
  g.push(g.operand(1), u64).i64(32n).op("i64_shr_u");
  if (g.has("shared")) c.i64(sharedWindow >> 32n).op("i64_eq");
  else if (g.has("local")) c.i64(localWindow >> 32n).op("i64_eq");
  else if (g.has("global")) c.i64(localWindow >> 32n).op("i64_gt_u");
  // Constants lie in global memory, at addresses that no kernel is told apart by.
  else if (g.has("const")) c.op("drop").i32(0);
  else g.unsupported();
  g.pop(g.operand(0), predicate);
}

/** Ordering and caching: there is one memory, and lanes run in one order. */
const nothing = (): void => {};

export const memoryEmitters: Emitters = {
  ld: load,
  ldu: load,
  st: store,
  ...atomicEmitters,
  cp: copyAsync,
  cvta: convertAddress,
  isspacep: isSpace,
  membar: nothing,
  fence: nothing,
  prefetch: nothing,
  prefetchu: nothing,
  discard: nothing,
  applypriority: nothing,
  nanosleep: nothing,
  pmevent: nothing,
};
