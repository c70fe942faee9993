import { waiting, warpSlots } from "../memory-map.ts";
import { Code } from "../wasm/code.ts";
import { functionIndex } from "./helpers.ts";
import { type CollectiveWriter, type WarpLocals, writeMaskCheck } from "./warp-collectives.ts";

/** A collective instruction as the warp's function sees it. */
export interface WarpCollective {
  /** What all lanes do next: a fragment, or `waiting` and the number of the next collective instruction. */
  readonly next: number;
  /** Undefined where JavaScript has to do it. */
  readonly write: CollectiveWriter | undefined;
}

/**
 * The function that runs a warp whose lanes are all in the same place: (warp, frames, state), the warp's area, local
 * memory's begin and where the lanes are. It calls regions, and does the collective instructions between them that all 32
 * lanes have come to, until lanes differ or one is reached that it cannot do. Returns where all lanes are, or -1. The
 * states in the warp's area are not kept up. With `watched` it says when it enters and leaves a region.
 */
export function warpFunction(
  regionOf: readonly number[],
  regionFunctions: readonly number[],
  collectives: readonly WarpCollective[],
  watched: boolean,
): Code {
  const c = new Code(["i32", "i32", "i32"], "i32");
  const [warp, frames, state] = [0, 1, 2];
  const locals: WarpLocals = { warp, scratch: new Map() };
  const inline = collectives.flatMap(({ write }, i) => (write ? [i] : []));
  // Depths count from the innermost block, 0.
  c.block("block").block("loop");
  c.get(state).i32(waiting).op("i32_lt_u").block("if");
  for (const _ of regionFunctions) c.block("block");
  c.get(state).brTable(regionOf, 0);
  regionFunctions.forEach((fn, r) => {
    c.end();
    if (watched) c.get(warp).call(functionIndex("enter"));
    c.get(warp).get(frames).get(state).call(fn).set(state);
    if (watched) c.get(warp).call(functionIndex("leave"));
    c.br(regionFunctions.length - r);
  });
  c.end();

  // A lane that has exited, or never was: JavaScript knows what to do.
  c.get(warp).memory("i32_load", warpSlots.live).i32(-1).op("i32_ne").brIf(1);
  for (const _ of inline) c.block("block");
  const table = collectives.map((_, i) => {
    const at = inline.indexOf(i);
    return at < 0 ? inline.length + 1 : at;
  });
  c.get(state)
    .i32(waiting)
    .op("i32_sub")
    .brTable(table, inline.length + 1);
  inline.forEach((i, at) => {
    const { next, write } = collectives[i]!;
    const exit = inline.length - at;
    c.end();
    writeMaskCheck(c, write!, locals, exit);
    write!.run(c, locals, exit);
    c.i32(next)
      .set(state)
      .br(exit - 1);
  });
  c.end().end();
  return c.get(state);
}
