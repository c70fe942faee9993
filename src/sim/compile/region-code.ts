import { exited, memoryMap, waiting, warpSlots } from "../memory-map.ts";
import type { Instruction, Register } from "../ptx/ast.ts";
import { Code } from "../wasm/code.ts";
import type { Opcode } from "../wasm/opcodes.ts";
import { bitwiseEmitters } from "./bitwise.ts";
import { comparisonEmitters } from "./comparisons.ts";
import { conversionEmitters } from "./conversions.ts";
import type { Emitters } from "./emitters.ts";
import { arithmeticEmitters } from "./floats.ts";
import { emitGuarded, emitStep, emitTraced } from "./flow-code.ts";
import type { Fragment } from "./fragments.ts";
import { integerEmitters } from "./integers.ts";
import { type KernelContext, LaneEmitter, predicate, registerType } from "./lane.ts";
import type { Liveness } from "./liveness.ts";
import { memoryEmitters } from "./memory.ts";
import { moveEmitters } from "./moves.ts";
import type { Region } from "./region.ts";
import { analyzeControl, type ControlTree, manyEntries } from "./structure.ts";
import { planTraffic, type Traffic } from "./traffic.ts";

const emitters: ReadonlyMap<string, Emitters[string]> = new Map(
  [
    moveEmitters,
    memoryEmitters,
    arithmeticEmitters,
    integerEmitters,
    bitwiseEmitters,
    comparisonEmitters,
    conversionEmitters,
  ].flatMap((table) => Object.entries(table)),
);

/** Where registers rest while their lane waits: an offset in the warp's area, for 32 lanes. */
export type Homes = ReadonlyMap<number, number>;

export interface KernelPlan {
  readonly fragments: readonly Fragment[];
  readonly registers: readonly Register[];
  readonly liveness: Liveness;
  readonly homes: Homes;
  /** Numbers of the collective instructions by fragment. */
  readonly collectives: ReadonlyMap<number, number>;
  readonly context: KernelContext;
}

/** The warp's area; 1 for every lane of that warp, local memory's begin; where all lanes go, or -1: where each one's state says. */
const parameters = { warp: 0, frames: 1, entry: 2 } as const;

/**
 * The function of a region: runs the lanes of one warp that are in it, one after another, each until it meets a collective
 * instruction or exits. Returns the state that all lanes have which have not exited; -1 when they differ. Writes which
 * those are to the warp's area.
 */
export function regionFunction(region: Region, plan: KernelPlan): Code {
  const c = new Code(["i32", "i32", "i32"], "i32");
  const writer = new RegionWriter(c, region, plan);
  writer.write();
  return c;
}

class RegionWriter {
  readonly #c: Code;
  readonly #region: Region;
  readonly #plan: KernelPlan;
  readonly #g: LaneEmitter;
  readonly #lane: number;
  readonly #area4: number;
  readonly #area8: number;
  readonly #frame: number;
  readonly #state: number;
  readonly #traffic: Traffic;
  /** Open blocks from the outermost: what a branch to a label must count. */
  readonly #labels: (number | "other" | "done")[] = [];

  constructor(c: Code, region: Region, plan: KernelPlan) {
    this.#c = c;
    this.#region = region;
    this.#plan = plan;
    this.#lane = c.local("i32");
    this.#area4 = c.local("i32");
    this.#area8 = c.local("i32");
    this.#frame = c.local("i32");
    this.#state = c.local("i32");
    const limits = Array.from({ length: 5 }, () => c.local("i64"));
    const sharedLimits = Array.from({ length: 5 }, () => c.local("i32"));
    this.#g = new LaneEmitter(
      c,
      { lane: this.#lane, area4: this.#area4, area8: this.#area8, frame: this.#frame, limits, sharedLimits },
      plan.context,
    );
    this.#traffic = planTraffic(region, plan.fragments, plan.liveness, plan.registers.length);
  }

  write(): void {
    const c = this.#c;
    const { limits, sharedLimits } = this.#g.locals;
    limits.forEach((local, i) => {
      c.base().memory("i64_load", memoryMap.limit).i64(BigInt(i)).op("i64_shr_u").set(local);
    });
    sharedLimits.forEach((local, i) => {
      c.base().memory("i32_load", memoryMap.sharedBytes).i32(i).op("i32_shr_u").set(local);
    });
    const [all, any, live] = [c.local("i32"), c.local("i32"), c.local("i32")];
    c.i32(-1).set(all);
    c.block("loop");
    c.get(parameters.warp).get(this.#lane).i32(2).op("i32_shl", "i32_add").set(this.#area4);
    c.get(parameters.warp).get(this.#lane).i32(3).op("i32_shl", "i32_add").set(this.#area8);
    const frameBytes = (this.#plan.context.localBytes + 15) & ~15;
    c.get(parameters.frames).get(this.#lane).i32(frameBytes).op("i32_mul", "i32_add").set(this.#frame);
    c.get(this.#area4).memory("i32_load", warpSlots.state).set(this.#state);
    c.get(this.#state).i32(exited).op("i32_ne").block("if");
    c.get(parameters.entry).i32(0).op("i32_ge_s").block("if").get(parameters.entry).set(this.#state).end();
    c.get(this.#state)
      .i32(this.#region.first)
      .op("i32_sub")
      .i32(this.#region.end - this.#region.first)
      .op("i32_lt_u");
    c.block("if").block("block");
    this.#labels.push("done");
    this.#body();
    this.#labels.pop();
    c.end().get(this.#area4).get(this.#state).memory("i32_store", warpSlots.state).end();
    c.end();
    // What lanes that have exited hold counts for neither.
    c.get(this.#state).i32(exited).op("i32_ne").block("if");
    c.get(all).get(this.#state).op("i32_and").set(all).get(any).get(this.#state).op("i32_or").set(any);
    c.get(live).i32(1).get(this.#lane).op("i32_shl", "i32_or").set(live).end();
    c.get(this.#lane).i32(1).op("i32_add").tee(this.#lane).i32(32).op("i32_lt_u").brIf(0).end();
    c.get(parameters.warp).get(live).memory("i32_store", warpSlots.live);
    c.get(all).get(any).op("i32_eq").block("if", "i32").get(any);
    c.else().i32(exited).i32(-1).get(all).i32(-1).op("i32_eq", "select").end();
  }

  #body(): void {
    const { entries } = this.#region;
    const control = analyzeControl(this.#region, this.#plan.fragments);
    if ("irreducibleAt" in control) throw new Error(`fragment ${control.irreducibleAt} should have been cut off`);
    if (control.root !== manyEntries) {
      this.#loadLive(entries[0]!);
      this.#tree(control.root, control);
      return;
    }
    // Each entry loads what it needs; they are all reached by leaving blocks.
    this.#loadFor(entries);
    this.#within(control.root, this.#mergeChildren(control.root, control), control);
  }

  /** Loads the registers that are live at the entry which `state` names, of those that the region touches. */
  #loadFor(entries: readonly number[]): void {
    const c = this.#c;
    for (let i = 0; i < entries.length; i++) c.block("block");
    c.block("block");
    const first = this.#region.first;
    const depth = new Map(entries.map((entry, i) => [entry, i]));
    const table = Array.from({ length: this.#region.end - first }, (_, i) => depth.get(first + i) ?? 0);
    c.get(this.#state).i32(first).op("i32_sub").brTable(table, 0).end();
    entries.forEach((entry, i) => {
      this.#loadLive(entry);
      c.br(entries.length - 1 - i).end();
    });
  }

  #mergeChildren(f: number, control: ControlTree): number[] {
    return (control.children.get(f) ?? []).filter((child) => control.merges.has(child));
  }

  #tree(f: number, control: ControlTree): void {
    const c = this.#c;
    const merges = this.#mergeChildren(f, control);
    if (!control.loopHeaders.has(f)) {
      this.#within(f, merges, control);
      return;
    }
    c.block("loop");
    this.#labels.push(f);
    this.#within(f, merges, control);
    this.#labels.pop();
    c.end();
  }

  /** A fragment inside one block for each merge that it dominates, the latest outermost. */
  #within(f: number, merges: readonly number[], control: ControlTree): void {
    const c = this.#c;
    const [merge, ...rest] = merges;
    if (merge !== undefined) {
      c.block("block");
      this.#labels.push(merge);
      this.#within(f, rest, control);
      this.#labels.pop();
      c.end();
      this.#tree(merge, control);
      return;
    }
    if (f === manyEntries) {
      const { first, end, entries } = this.#region;
      const table = Array.from({ length: end - first }, (_, i) =>
        this.#depth(entries.includes(first + i) ? first + i : "done"),
      );
      c.get(this.#state).i32(first).op("i32_sub").brTable(table, this.#depth("done"));
      return;
    }
    this.#instructions(f);
    const { ending } = this.#plan.fragments[f]!;
    const go = (to: number): void => {
      if (this.#region.resumptions.has(to)) {
        this.#leave(f, to);
        return;
      }
      const isBack = control.order.get(to)! <= control.order.get(f)!;
      if (isBack || control.merges.has(to)) c.br(this.#depth(to));
      else this.#tree(to, control);
    };
    if (ending.kind === "goto") go(ending.target);
    else if (ending.kind === "branch" && ending.taken === ending.next) go(ending.next);
    else if (ending.kind === "branch") {
      this.#pushCondition(ending);
      c.block("if");
      this.#labels.push("other");
      go(ending.taken);
      c.else();
      go(ending.next);
      this.#labels.pop();
      c.end();
    } else this.#stop(f);
  }

  #pushCondition({ predicate: register, negated }: { predicate: Register; negated: boolean }): void {
    this.#g.push({ kind: "register", register, negated }, predicate);
  }

  #depth(label: number | "done"): number {
    return this.#labels.length - 1 - this.#labels.lastIndexOf(label);
  }

  #instructions(f: number): void {
    const g = this.#g;
    emitStep(g, f);
    for (const instruction of this.#plan.fragments[f]!.instructions) {
      g.begin(instruction);
      emitTraced(g, instruction, () => this.#instruction(instruction));
    }
    const { ending } = this.#plan.fragments[f]!;
    if (ending.kind === "collective" || !ending.jump) return;
    g.begin(ending.jump);
    emitTraced(g, ending.jump, () => {});
  }

  #instruction({ name, guard }: Instruction): void {
    const g = this.#g;
    const emit = emitters.get(name) ?? g.unsupported();
    if (guard) {
      g.push({ kind: "register", register: guard.register, negated: guard.negated }, predicate);
      this.#c.block("if");
      emitGuarded(g);
    }
    emit(g);
    if (guard) this.#c.end();
  }

  /** The end of a lane's run. */
  #stop(f: number): void {
    const { ending } = this.#plan.fragments[f]!;
    if (ending.kind === "collective") this.#leave(f, waiting + this.#plan.collectives.get(f)!);
    else this.#c.i32(exited).set(this.#state).br(this.#depth("done"));
  }

  /** Stops with what is needed later in memory. */
  #leave(f: number, state: number): void {
    for (const index of this.#traffic.stores.get(f)!) this.#storeHome(index);
    this.#c.i32(state).set(this.#state).br(this.#depth("done"));
  }

  #loadLive(entry: number): void {
    for (const index of this.#traffic.loads.get(entry)!) this.#loadHome(index);
  }

  #loadHome(index: number): void {
    const { register, home, area, value } = this.#home(index);
    // Registers that are live at the kernel's begin were never written: whatever they hold.
    if (home === undefined) return;
    this.#c
      .get(area)
      .memory(`${value}_load` as Opcode, home)
      .set(this.#g.local(register));
  }

  #storeHome(index: number): void {
    const { register, home, area, value } = this.#home(index);
    if (home === undefined) return;
    this.#c
      .get(area)
      .get(this.#g.local(register))
      .memory(`${value}_store` as Opcode, home);
  }

  #home(index: number): { register: Register; home: number | undefined; area: number; value: string } {
    const register = this.#plan.registers[index]!;
    const { value } = registerType(register);
    const wide = value === "i64" || value === "f64";
    return { register, home: this.#plan.homes.get(index), area: wide ? this.#area8 : this.#area4, value };
  }
}
