import type { LaunchShape } from "../../driver/api.ts";
import type { CompiledKernel } from "../compile/kernel.ts";
import type { BarrierWatch } from "./barriers.ts";
import type { AccessObserver } from "./operands.ts";
import type { LinearMemory } from "./views.ts";

/**
 * Watches the launches of one kernel that was compiled to report what it does. Instructions go by number: `site` in the
 * kernel's list of sites, `number` in that of its collective instructions. What it throws ends the launch.
 */
export interface KernelWatch extends BarrierWatch {
  begin(shape: LaunchShape): void;
  beginBlock(block: readonly [number, number, number]): void;
  /** What is reported from here on is of the warp with this area. */
  enterWarp(area: number): void;
  /** An access that a lane is about to make, at a linear address; see packAccess. */
  readonly access: (address: number, packed: number, site: number, lane: number) => void;
  /** A lane's cp.async.commit_group (-1), or its wait until at most `newest` groups are under way. */
  readonly copies: (newest: number, lane: number) => void;
  /** Takes the accesses of collective instruction `number`. */
  observer(number: number): AccessObserver;
  /** `lanes` of the running warp are about to do a collective instruction. */
  meet(number: number, lanes: number): void;
  /** They have done it. Of instructions that access no memory this is told only to a watch of the flow. */
  met?(number: number, lanes: number): void;
  /** Only for a kernel compiled with `flow`. */
  readonly flow?: FlowWatch;
}

/** Is told how lanes go through a kernel. Regions then run one at a time, each lane to its end before the next begins. */
export interface FlowWatch {
  /** Lanes of the warp with this area are about to run a region; they have run it, and their states are in the area. */
  readonly enter: (area: number) => void;
  readonly leave: (area: number) => void;
  /** A lane begins a fragment. */
  readonly step: (fragment: number, lane: number) => void;
  /** The predicate of a guarded instruction holds for a lane. */
  readonly guarded: (site: number, lane: number) => void;
  /** A lane is about to execute an instruction; 1 to be told of its operands. */
  readonly trace: (site: number, lane: number) => number;
  /** The bits of a register that the instruction reads, in order, or after it of one that it has written. */
  readonly operand: (bits: bigint) => void;
}

/** Makes a watch for each kernel that is launched while it is set on a device. */
export interface LaunchWatcher {
  /** What the kernels are to report beside accesses and collective instructions: the ways of lanes, and operands. */
  readonly flow: FlowReports;
  /** Only kernels of this name are watched, if it is given. */
  readonly kernel?: string | undefined;
  /** `base`: where the executor's part of memory begins. */
  watch(kernel: CompiledKernel, memory: LinearMemory, base: number): KernelWatch;
}

export interface FlowReports {
  readonly steps: boolean;
  readonly operands: boolean;
}
