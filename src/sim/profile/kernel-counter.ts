import type { LaunchShape } from "../../driver/api.ts";
import type { CompiledKernel } from "../compile/kernel.ts";
import { exited, waiting } from "../memory-map.ts";
import type { AccessObserver } from "../run/operands.ts";
import type { LinearMemory } from "../run/views.ts";
import type { FlowWatch, KernelWatch } from "../run/watch.ts";
import { type KernelProfile, profileOf } from "./kernel-profile.ts";
import { LaneEvents } from "./lane-events.ts";
import { MatrixAccesses } from "./matrix-accesses.ts";
import { WarpCounts } from "./warp-counts.ts";

/** Watches the launches of one kernel and counts what its warps do. */
export class KernelCounter implements KernelWatch {
  readonly #kernel: CompiledKernel;
  readonly #memory: LinearMemory;
  readonly #events = new LaneEvents();
  readonly #warpCounts: WarpCounts;
  readonly #matrixAccesses = new MatrixAccesses();
  #launches = 0;
  #blocks = 0;
  #warps = 0;
  #warpsPerBlock = 0;

  constructor(kernel: CompiledKernel, memory: LinearMemory, base: number) {
    this.#kernel = kernel;
    this.#memory = memory;
    this.#warpCounts = new WarpCounts(kernel, base);
  }

  get profile(): KernelProfile {
    const { entry, module } = this.#kernel;
    const totals = { launches: this.#launches, blocks: this.#blocks, warps: this.#warps };
    return profileOf({ kernel: entry.name, module, ...totals }, this.#warpCounts.byInstruction());
  }

  begin({ block }: LaunchShape): void {
    this.#launches++;
    this.#warpsPerBlock = Math.ceil((block[0] * block[1] * block[2]) / 32);
  }

  beginBlock(): void {
    this.#blocks++;
    this.#warps += this.#warpsPerBlock;
  }

  readonly access = (address: number, packed: number, site: number, lane: number): void => {
    this.#events.access(address, packed, site, lane);
  };

  observer(): AccessObserver {
    return (address, bytes, _lane, writes) => this.#matrixAccesses.add(address >>> 0, bytes, writes);
  }

  /** What the instruction accessed is complete. */
  met(number: number): void {
    const { first } = this.#matrixAccesses;
    if (first === undefined) return;
    const isWmma = this.#kernel.collectives[number]!.instruction.name === "wmma";
    const traffic = isWmma
      ? this.#matrixAccesses.takeElements(this.#warpCounts.isGlobal(first))
      : this.#matrixAccesses.takeRows();
    this.#warpCounts.collectiveTraffic(number, traffic);
  }

  readonly flow: FlowWatch = {
    enter: () => {},
    leave: (area) => {
      this.#events.together(this.#warpCounts);
      this.#countCollectives(area);
      this.#events.clear();
    },
    step: (fragment, lane) => this.#events.step(fragment, lane),
    guarded: (site, lane) => this.#events.guarded(site, lane),
    trace: () => 0,
    operand: () => {},
  };

  /** Lanes that come to a collective instruction from the same run of a region do it together. */
  #countCollectives(area: number): void {
    const { i32 } = this.#memory;
    const meetings = new Map<number, number>();
    for (let lanes = this.#events.lanes; lanes !== 0; lanes &= lanes - 1) {
      const lane = 31 - Math.clz32(lanes & -lanes);
      const state = i32[(area >>> 2) + lane]!;
      if (state >= waiting && state !== exited) meetings.set(state, (meetings.get(state) ?? 0) | (1 << lane));
    }
    for (const [state, lanes] of meetings) this.#warpCounts.collective(state - waiting, lanes);
  }

  enterWarp(): void {}
  meet(): void {}
  arrive(): void {}
  pass(): void {}
  passTogether(): void {}
  readonly copies = (): void => {};
}
