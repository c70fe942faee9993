import type { CompiledKernel } from "../compile/kernel.ts";
import { exited, memoryMap, waiting } from "../memory-map.ts";
import type { Instruction } from "../ptx/ast.ts";
import { OperandReader } from "./operands.ts";
import type { LinearMemory } from "./views.ts";

/** bar.sync, barrier.sync and their reductions; `bar.warp.sync` is a matter of the warp. */
export function isBarrier({ name, modifiers }: Instruction): boolean {
  return (name === "bar" || name === "barrier") && !modifiers.includes("warp");
}

export interface BarrierSite {
  readonly next: number;
  readonly instruction: Instruction;
  readonly kind: "sync" | "arrive" | "reduce";
  readonly id: (memory: LinearMemory, warp: number, lane: number) => number;
  readonly constantId: boolean;
  /** Threads that the barrier is for; undefined for all of the block. */
  readonly threads: ((memory: LinearMemory, warp: number, lane: number) => number) | undefined;
  readonly predicate: ((memory: LinearMemory, warp: number, lane: number) => number) | undefined;
  readonly result: number;
}

export interface Arrival {
  /** The warp's area. */
  readonly warp: number;
  readonly lane: number;
  readonly site: BarrierSite;
}

/** Is told what the barriers of a block order; throws for what is not allowed. */
export interface BarrierWatch {
  /** A thread of the warp with this area has arrived without waiting. */
  arrive(id: number, area: number): void;
  /** All live threads of the block, which has so many warps, have come to one barrier, and go on. */
  passTogether(instruction: Instruction, warps: number): void;
  /** Those that wait go on; `whole` when they are all live threads of the block. */
  pass(id: number, arrivals: readonly Arrival[], whole: boolean): void;
}

type Outcome = "done" | "released" | { readonly warp: number; readonly lane: number };

/** The barriers of a block, looked at when every warp has stopped. Threads that have exited are not waited for. */
export class Barriers {
  readonly #kernel: CompiledKernel;
  readonly #memory: LinearMemory;
  readonly #base: number;
  readonly #sites = new Map<number, BarrierSite>();
  /** Threads that arrived without waiting, by barrier. */
  readonly #arrived = new Map<number, number>();
  readonly #watch: BarrierWatch | undefined;

  constructor(kernel: CompiledKernel, memory: LinearMemory, base: number, watch: BarrierWatch | undefined) {
    this.#kernel = kernel;
    this.#memory = memory;
    this.#base = base;
    this.#watch = watch;
  }

  /** A block begins: nobody has arrived. */
  begin(): void {
    this.#arrived.clear();
  }

  /**
   * The usual case: every warp is whole at the same barrier for all threads, or has exited. Lets them go on in `states` and
   * says so; otherwise does nothing.
   */
  releaseTogether(states: Int32Array, warps: number): boolean {
    let common = exited as number;
    for (let w = 0; w < warps; w++) {
      const state = states[w]!;
      if (state === exited) continue;
      if (state < waiting || (common !== exited && common !== state)) return false;
      common = state;
    }
    if (common === exited || this.#arrived.size > 0) return false;
    const { kind, threads, constantId, next, instruction } = this.#site(common - waiting);
    if (kind !== "sync" || threads || !constantId) return false;
    for (let w = 0; w < warps; w++) if (states[w] !== exited) states[w] = next;
    this.#watch?.passTogether(instruction, warps);
    return true;
  }

  /** Lets the threads of complete barriers go on. When none is complete: one that waits in vain. */
  release(warps: number): Outcome {
    const { i32 } = this.#memory;
    const barriers = new Map<number, Arrival[]>();
    let live = 0;
    let moved = false;
    for (let warp = 0; warp < warps; warp++) {
      const area = this.#base + memoryMap.warps + warp * this.#kernel.warpBytes;
      for (let lane = 0; lane < 32; lane++) {
        const state = i32[(area >>> 2) + lane]!;
        if (state === exited) continue;
        live++;
        const site = this.#site(state - waiting);
        const id = site.id(this.#memory, area, lane);
        if (site.kind === "arrive") {
          this.#watch?.arrive(id, area);
          this.#arrived.set(id, (this.#arrived.get(id) ?? 0) + 1);
          i32[(area >>> 2) + lane] = site.next;
          moved = true;
          continue;
        }
        const arrivals = barriers.get(id);
        if (arrivals) arrivals.push({ warp: area, lane, site });
        else barriers.set(id, [{ warp: area, lane, site }]);
      }
    }
    if (live === 0) return "done";
    for (const [id, arrivals] of barriers) {
      const { site, warp, lane } = arrivals[0]!;
      const wanted = site.threads?.(this.#memory, warp, lane) ?? live;
      if (arrivals.length + (this.#arrived.get(id) ?? 0) < wanted) continue;
      this.#arrived.delete(id);
      this.#watch?.pass(id, arrivals, arrivals.length === live);
      this.#reduce(arrivals);
      for (const arrival of arrivals) i32[(arrival.warp >>> 2) + arrival.lane] = arrival.site.next;
      moved = true;
    }
    if (moved) return "released";
    const { warp, lane } = [...barriers.values()][0]![0]!;
    return { warp: (warp - this.#base - memoryMap.warps) / this.#kernel.warpBytes, lane };
  }

  #reduce(arrivals: readonly Arrival[]): void {
    const { site } = arrivals[0]!;
    if (site.kind !== "reduce") return;
    const holds = arrivals.filter((a) => a.site.predicate!(this.#memory, a.warp, a.lane) !== 0).length;
    const { modifiers } = site.instruction;
    const result = modifiers.includes("popc")
      ? holds
      : modifiers.includes("and")
        ? +(holds === arrivals.length)
        : +(holds > 0);
    for (const { warp, lane, site: own } of arrivals) this.#memory.i32[((warp + own.result) >>> 2) + lane] = result;
  }

  #site(collective: number): BarrierSite {
    const known = this.#sites.get(collective);
    if (known) return known;
    const { instruction, next } = this.#kernel.collectives[collective]!;
    const reader = new OperandReader(instruction, this.#base, this.#kernel.entry.name, this.#kernel.homes, () => 0);
    const reduces = instruction.modifiers.includes("red");
    const first = reduces ? 1 : 0;
    const rest = instruction.operands.length - first - (reduces ? 1 : 0);
    const site: BarrierSite = {
      next,
      instruction,
      kind: reduces ? "reduce" : instruction.modifiers.includes("arrive") ? "arrive" : "sync",
      id: reader.reader(reader.at(first)),
      constantId: reader.at(first).kind === "integer",
      threads: rest > 1 ? reader.reader(reader.at(first + 1)) : undefined,
      predicate: reduces ? reader.reader(reader.at(instruction.operands.length - 1)) : undefined,
      result: reduces ? reader.homesOf(reader.at(0))[0]! : -1,
    };
    this.#sites.set(collective, site);
    return site;
  }
}
