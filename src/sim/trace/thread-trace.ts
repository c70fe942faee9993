import { accessBytesMask, accessKindShift, accessKinds } from "../compile/access.ts";
import { registersOf } from "../compile/effects.ts";
import type { CompiledKernel } from "../compile/kernel.ts";
import { exited, memoryMap, waiting, warpSlots } from "../memory-map.ts";
import type { Instruction, Register } from "../ptx/ast.ts";
import { isBarrier } from "../run/barriers.ts";
import type { AccessObserver } from "../run/operands.ts";
import type { LinearMemory } from "../run/views.ts";
import type { FlowWatch, KernelWatch } from "../run/watch.ts";
import type { RegisterValue, TracedAccess, TraceStep } from "./trace-step.ts";

type Place = readonly [number, number, number];

/** Which thread to trace, and how much of what it does to keep. */
export interface TraceWindow {
  readonly block: Place;
  readonly thread: Place;
  /** Instructions to leave out at the begin, and to keep then. */
  readonly skip: number;
  readonly limit: number;
  readonly deviceBase: bigint;
}

/** A step while it is under way. */
interface OpenStep {
  readonly instruction: Instruction;
  readonly read: readonly Register[];
  readonly written: readonly Register[];
  readonly operands: RegisterValue[];
  readonly results: RegisterValue[];
  readonly accesses: TracedAccess[];
}

/** Watches one thread of the first launch of a kernel. */
export class ThreadTrace implements KernelWatch {
  readonly #kernel: CompiledKernel;
  readonly #memory: LinearMemory;
  readonly #base: number;
  readonly #window: TraceWindow;
  readonly #steps: OpenStep[] = [];
  #count = 0;
  #launches = 0;
  #isBlock = false;
  /** The area of the running warp where the thread is in it, and the thread's lane. */
  #area: number | undefined;
  #lane = 0;
  /** The step that registers and accesses are told of. */
  #open: OpenStep | undefined;
  /** The lane has run in this run of a region. */
  #ran = false;

  constructor(kernel: CompiledKernel, memory: LinearMemory, base: number, window: TraceWindow) {
    this.#kernel = kernel;
    this.#memory = memory;
    this.#base = base;
    this.#window = window;
  }

  get kernel(): CompiledKernel {
    return this.#kernel;
  }

  /** Instructions that the thread came to, whether kept or not. */
  get count(): number {
    return this.#count;
  }

  get steps(): TraceStep[] {
    return this.#steps.map(({ instruction, operands, results, accesses }) => {
      const { guard } = instruction;
      const predicate = operands.at(-1)?.bits ?? 0n;
      const executed = !guard || instruction.name === "bra" || (predicate !== 0n) !== guard.negated;
      return { instruction, executed, operands, results: executed ? results : [], accesses };
    });
  }

  begin(): void {
    this.#launches++;
  }

  beginBlock([x, y, z]: Place): void {
    const [bx, by, bz] = this.#window.block;
    this.#isBlock = this.#launches === 1 && x === bx && y === by && z === bz;
    this.#area = undefined;
  }

  enterWarp(area: number): void {
    this.#area = this.#isBlock ? this.#find(area) : undefined;
  }

  /** The area itself when the thread is one of its warp's, whose lane is noted. */
  #find(area: number): number | undefined {
    const { i32 } = this.#memory;
    const [x, y, z] = this.#window.thread;
    for (let lane = 0; lane < 32; lane++) {
      const at = (slot: number) => i32[((area + slot) >>> 2) + lane]!;
      if (at(warpSlots.threadX) !== x || at(warpSlots.threadY) !== y || at(warpSlots.threadZ) !== z) continue;
      this.#lane = lane;
      return area;
    }
    return undefined;
  }

  readonly access = (address: number, packed: number, _site: number, lane: number): void => {
    this.#access(address, packed & accessBytesMask, lane, packed >>> accessKindShift);
  };

  observer(): AccessObserver {
    return (address, bytes, lane, writes) =>
      this.#access(address, bytes, lane, writes ? accessKinds.write : accessKinds.read);
  }

  #access(signed: number, bytes: number, lane: number, kind: number): void {
    if (this.#area === undefined || lane !== this.#lane || !this.#open) return;
    const address = signed >>> 0;
    const verb = kind === accessKinds.read ? "reads" : kind === accessKinds.atomic ? "updates" : "writes";
    this.#open.accesses.push({ kind: verb, bytes, ...this.#place(address) });
  }

  #place(address: number): Pick<TracedAccess, "space" | "address"> {
    if (address >= memoryMap.heap) return { space: "global", address: this.#window.deviceBase + BigInt(address) };
    const own = address - this.#base;
    if (own < memoryMap.locals) return { space: "shared", address: BigInt(own - memoryMap.shared) };
    const frameBytes = (this.#kernel.entry.localBytes + 15) & ~15;
    return { space: "local", address: BigInt((own - memoryMap.locals) % frameBytes) };
  }

  meet(number: number, lanes: number): void {
    if (this.#takesPart(lanes)) this.#beginCollective(this.#kernel.collectives[number]!.instruction);
  }

  met(_number: number, lanes: number): void {
    if (this.#takesPart(lanes)) this.#readResults();
  }

  #takesPart(lanes: number): boolean {
    return this.#area !== undefined && ((lanes >>> this.#lane) & 1) !== 0;
  }

  readonly flow: FlowWatch = {
    enter: () => {
      // A barrier has let the thread go on; what it left is in the registers now.
      if (this.#area !== undefined) this.#readResults();
      this.#ran = false;
    },
    leave: (area) => {
      if (this.#area === undefined) return;
      this.#open = undefined;
      if (!this.#ran) return;
      const state = this.#memory.i32[(area >>> 2) + this.#lane]!;
      if (state < waiting || state === exited) return;
      const { instruction } = this.#kernel.collectives[state - waiting]!;
      if (isBarrier(instruction)) this.#beginCollective(instruction);
    },
    step: (_fragment, lane) => {
      if (lane === this.#lane) this.#ran = true;
    },
    guarded: () => {},
    trace: (site, lane) => {
      if (this.#area === undefined) return 0;
      this.#open = undefined;
      if (lane !== this.#lane) return 0;
      this.#begin(this.#kernel.sites[site]!);
      return this.#open ? 1 : 0;
    },
    operand: (bits) => {
      const { read, written, operands, results } = this.#open!;
      if (operands.length < read.length) operands.push(registerValue(read[operands.length]!, bits));
      else results.push(registerValue(written[results.length]!, bits));
    },
  };

  #begin(instruction: Instruction): void {
    const { skip, limit } = this.#window;
    const at = this.#count++;
    if (at < skip || at >= skip + limit) return;
    this.#open = { instruction, ...registersOf(instruction), operands: [], results: [], accesses: [] };
    this.#steps.push(this.#open);
  }

  #beginCollective(instruction: Instruction): void {
    this.#open = undefined;
    this.#begin(instruction);
    // The cast undoes what is known of #open since the assignment above.
    const open = this.#open as OpenStep | undefined;
    if (open) for (const register of open.read) open.operands.push(this.#home(register));
  }

  #readResults(): void {
    const open = this.#open;
    if (open) for (const register of open.written) open.results.push(this.#home(register));
    this.#open = undefined;
  }

  /** A register of the thread while it waits. */
  #home(register: Register): RegisterValue {
    const home = this.#kernel.homes.get(register.index);
    if (home === undefined || this.#area === undefined) return registerValue(register, 0n);
    const isWide = /64$/.test(register.type);
    const { u32, u64 } = this.#memory;
    const at = this.#area + home;
    const bits = isWide ? u64[(at >>> 3) + this.#lane]! : BigInt(u32[(at >>> 2) + this.#lane]!);
    return registerValue(register, bits);
  }

  arrive(): void {}
  pass(): void {}
  passTogether(): void {}
  readonly copies = (): void => {};
}

function registerValue({ name, type }: Register, bits: bigint): RegisterValue {
  return { register: name, type, bits: BigInt.asUintN(64, bits) };
}
