import type { LaunchShape } from "../../driver/api.ts";
import { type CheckedMemory, KernelChecks } from "../check/kernel-checks.ts";
import { SharedBounds } from "../check/shared-bounds.ts";
import { accessBytes } from "../compile/access.ts";
import type { CompiledKernel } from "../compile/kernel.ts";
import { exited, localWindow, memoryMap, sharedWindow, waiting, warpSlots, windowBytes } from "../memory-map.ts";
import type { Instruction } from "../ptx/ast.ts";
import { wasm } from "../wasm/host.ts";
import { Barriers, isBarrier } from "./barriers.ts";
import { describePlace, kernelFault, type ThreadPlace } from "./faults.ts";
import { divide64, fma64, root64 } from "./float64.ts";
import { MatrixFault } from "./matrix-moves.ts";
import { matrixOps } from "./matrix-ops.ts";
import { type CollectiveRun, OperandReader } from "./operands.ts";
import { describeStall } from "./stall.ts";
import type { LinearMemory } from "./views.ts";
import { warpOps } from "./warp-ops.ts";
import type { FlowWatch, KernelWatch, LaunchWatcher } from "./watch.ts";
import { wmmaOps } from "./wmma-ops.ts";

/** What a device lends its kernels. */
export interface KernelHost {
  readonly memory: LinearMemory;
  readonly deviceBase: bigint;
  /** The linear address for one in host memory or on another device; undefined when there is nothing. */
  foreign(address: bigint, bytes: number): number | undefined;
  /** Names the allocation that lies nearest to an address. */
  describeAddress(address: bigint): string;
  /** Undefined without checks. */
  readonly checked: CheckedMemory | undefined;
}

type RegionFunction = (warp: number, frames: number, entry: number) => number;

/** All live lanes of a warp wait at barriers of the block, not all at the same. */
const allBlocked = -1;

interface Collective {
  readonly instruction: Instruction;
  readonly next: number;
  readonly follower: number | undefined;
  /** Undefined for barriers of the block. */
  readonly run: CollectiveRun | undefined;
  readonly mask: ((memory: LinearMemory, warp: number, lane: number) => number) | undefined;
}

/**
 * A kernel bound to an executor's part of a device's memory. One launch runs at a time: blocks in order, and in a block warps
 * in order.
 */
export class KernelInstance {
  readonly kernel: CompiledKernel;
  readonly #host: KernelHost;
  /** Where the executor's part of memory begins, and its warps' areas. */
  readonly #base: number;
  readonly #warps: number;
  readonly #regions: readonly RegionFunction[];
  readonly #runWhole: RegionFunction;
  readonly #collectives: readonly Collective[];
  readonly #watch: KernelWatch | undefined;
  readonly #barriers: Barriers;
  /** Where all lanes of a warp are, or -1: their states in the warp's area say. Otherwise those are out of date. */
  #states = new Int32Array(32);
  /** The area of the warp that runs. */
  #warp = 0;
  #block: [number, number, number] = [0, 0, 0];
  #blockNumber = 0;

  /** `watcher` takes the place of the checks, for a kernel compiled with its flow. */
  constructor(kernel: CompiledKernel, host: KernelHost, executor = 0, watcher?: LaunchWatcher) {
    this.kernel = kernel;
    this.#host = host;
    this.#base = executor * memoryMap.executorBytes;
    this.#warps = this.#base + memoryMap.warps;
    this.#watch = watcher
      ? watcher.watch(kernel, host.memory, this.#base)
      : host.checked && new KernelChecks(kernel, host.memory, this.#base, host.checked);
    this.#barriers = new Barriers(kernel, host.memory, this.#base, this.#watch);
    const instance = new wasm.Instance(kernel.wasm, { env: this.#imports() });
    const count = Math.max(...kernel.regionOf) + 1;
    const regions = Array.from({ length: count }, (_, i) => instance.exports[`r${i}`] as RegionFunction);
    const flow = this.#watch?.flow;
    this.#regions = flow ? regions.map((run) => watchedRegion(run, flow)) : regions;
    this.#runWhole = instance.exports.warp as RegionFunction;
    this.#collectives = kernel.collectives.map(({ instruction, next, follower }, number) => {
      const resolve = (address: bigint, bytes: number): number => {
        const offset = address - host.deviceBase;
        if (offset >= 0n && offset < BigInt(host.memory.bytes)) return Number(offset);
        return this.#resolve(address, instruction, 0, 0, bytes);
      };
      const observe = this.#watch?.observer(number);
      const reader = new OperandReader(instruction, this.#base, kernel.entry.name, kernel.homes, resolve, observe);
      if (isBarrier(instruction)) return { instruction, next, follower, run: undefined, mask: undefined };
      const make = warpOps[instruction.name] ?? matrixOps[instruction.name] ?? wmmaOps[instruction.name];
      const isWarpBarrier = instruction.name === "bar" || instruction.name === "barrier";
      if (!make && !isWarpBarrier) reader.unsupported();
      const run = make ? make(reader) : () => {};
      return { instruction, next, follower, run, mask: memberMask(reader) };
    });
  }

  /** Somebody looks on: then blocks run in order. */
  get isWatched(): boolean {
    return this.#watch !== undefined;
  }

  /** The block that runs or ran last, counted along x, then y, then z. */
  get blockNumber(): number {
    return this.#blockNumber;
  }

  /**
   * Runs the blocks that `next` names, counted along x, then y, then z, until it names one beyond the grid. `parameters` is
   * written to parameter memory first. Throws CudaError for what the kernel does wrong.
   */
  run(shape: LaunchShape, parameters: Uint8Array, next: () => number = inOrder()): void {
    const { memory } = this.#host;
    const { entry, warpBytes } = this.kernel;
    const { grid, block } = shape;
    const threads = block[0] * block[1] * block[2];
    const warps = Math.ceil(threads / 32);
    const frameBytes = (entry.localBytes + 15) & ~15;
    if (
      warps * warpBytes > memoryMap.warpsEnd - memoryMap.warps ||
      warps * 32 * frameBytes > memoryMap.localsEnd - memoryMap.locals
    ) {
      throw kernelFault(
        "CUDA_ERROR_LAUNCH_FAILED",
        `${entry.name}: a block of ${threads} threads needs more registers or local memory than sim has`,
      );
    }
    const base = this.#base;
    memory.u8.set(parameters, base + memoryMap.parameters);
    memory.i32.set(grid, (base + memoryMap.gridShape) >>> 2);
    memory.i32.set(block, (base + memoryMap.blockShape) >>> 2);
    memory.u64[(base + memoryMap.limit) >>> 3] = BigInt(memory.bytes);
    const shared = (this.kernel.sharedMemory.dynamicOffset + shape.sharedBytes + 15) & ~15;
    memory.i32[(base + memoryMap.sharedBytes) >>> 2] = shared;
    memory.i32[(base + memoryMap.dynamicSharedBytes) >>> 2] = shape.sharedBytes;
    this.#writeThreads(block, threads, warps);
    this.#watch?.begin(shape);
    const at = (base + memoryMap.blockIndex) >>> 2;
    const blocks = grid[0] * grid[1] * grid[2];
    for (let b = next(); b < blocks; b = next()) {
      this.#blockNumber = b;
      this.#block = [b % grid[0], Math.floor(b / grid[0]) % grid[1], Math.floor(b / (grid[0] * grid[1]))];
      memory.i32.set(this.#block, at);
      this.#watch?.beginBlock(this.#block);
      // What a block finds in shared memory is arbitrary: NaN in every float type.
      memory.u8.fill(0xff, base + memoryMap.shared, base + memoryMap.shared + shared);
      this.#runBlock(threads, warps, frameBytes);
    }
  }

  #writeThreads(block: readonly [number, number, number], threads: number, warps: number): void {
    const { i32 } = this.#host.memory;
    for (let t = 0; t < warps * 32; t++) {
      const at = (this.#warps + (t >>> 5) * this.kernel.warpBytes) / 4 + (t & 31);
      if (t >= threads) continue;
      i32[at + warpSlots.threadX / 4] = t % block[0];
      i32[at + warpSlots.threadY / 4] = Math.floor(t / block[0]) % block[1];
      i32[at + warpSlots.threadZ / 4] = Math.floor(t / (block[0] * block[1]));
      i32[at + warpSlots.warp / 4] = t >>> 5;
    }
  }

  #runBlock(threads: number, warps: number, frameBytes: number): void {
    const { warpBytes } = this.kernel;
    const { memory } = this.#host;
    const states = this.#states;
    for (let w = 0; w < warps; w++) {
      const at = (this.#warps + w * warpBytes) >>> 2;
      const lanes = Math.min(32, threads - 32 * w);
      memory.i32.fill(0, at, at + lanes);
      memory.i32.fill(exited, at + lanes, at + 32);
    }
    states.fill(0, 0, warps);
    // The last warp may not be whole: then its states count.
    if (threads % 32 !== 0) states[warps - 1] = -1;
    this.#barriers.begin();
    for (;;) {
      for (let w = 0; w < warps; w++) {
        if (states[w] === exited) continue;
        const area = this.#warps + w * warpBytes;
        states[w] = this.#runWarp(area, this.#base + memoryMap.locals + w * 32 * frameBytes, states[w]!);
      }
      if (this.#barriers.releaseTogether(states, warps)) continue;
      for (let w = 0; w < warps; w++) this.#settle(this.#warps + w * warpBytes, states[w]!);
      const stuck = this.#barriers.release(warps);
      if (stuck === "done") return;
      if (stuck !== "released") this.#deadlock(warps, stuck.warp, stuck.lane);
      states.fill(-1, 0, warps);
    }
  }

  /** Writes where all of a warp's lanes are to its area. */
  #settle(area: number, state: number): void {
    if (state < 0) return;
    const { i32 } = this.#host.memory;
    const at = area >>> 2;
    for (let lane = 0; lane < 32; lane++) if (i32[at + lane] !== exited) i32[at + lane] = state;
  }

  /**
   * Runs a warp until all its lanes have exited or wait at barriers of the block. Takes and returns where they all are,
   * -1 when they differ and the warp's area says.
   */
  #runWarp(area: number, frames: number, begin: number): number {
    this.#warp = area;
    this.#watch?.enterWarp(area);
    const { memory } = this.#host;
    const { regionOf } = this.kernel;
    let state = begin;
    for (;;) {
      if (state >= 0) state = this.#runWhole(area, frames, state);
      if (state === exited) return state;
      if (state >= waiting) {
        // All lanes are at the same instruction.
        const lanes = memory.i32[(area + warpSlots.live) >>> 2]!;
        const { run, mask, next, follower } = this.#collectives[state - waiting]!;
        if (!run) return state;
        if (!mask || (mask(memory, area, 31 - Math.clz32(lanes & -lanes)) & lanes) === lanes) {
          this.#collect(state - waiting, area, lanes);
          state = follower === undefined ? next : waiting + follower;
          continue;
        }
        this.#settle(area, state);
      }
      // Lanes differ, or nothing is known yet: run those that can, then those that meet.
      state = this.#runGroups(area);
      if (state === allBlocked) return -1;
      if (state < waiting) state = this.#regions[regionOf[state]!]!(area, frames, -1);
    }
  }

  /**
   * A fragment that some lane is to run, after doing the collective instructions whose lanes are all there; or where
   * all 32 lanes wait together; or `allBlocked` when all live lanes wait at barriers of the block.
   */
  #runGroups(area: number): number {
    const { memory } = this.#host;
    const at = area >>> 2;
    for (;;) {
      const groups = new Map<number, number>();
      let live = 0;
      for (let lane = 0; lane < 32; lane++) {
        const state = memory.i32[at + lane]!;
        if (state === exited) continue;
        if (state < waiting) return state;
        live |= 1 << lane;
        groups.set(state, (groups.get(state) ?? 0) | (1 << lane));
      }
      memory.i32[(area + warpSlots.live) >>> 2] = live;
      let done = false;
      let blocked = 0;
      for (const [state, lanes] of groups) {
        const collective = this.#collectives[state - waiting]!;
        if (!collective.run) {
          blocked |= lanes;
          continue;
        }
        const first = 31 - Math.clz32(lanes & -lanes);
        const wanted = collective.mask ? collective.mask(memory, area, first) & live : lanes;
        if ((wanted & ~lanes) !== 0 || wanted === 0) continue;
        if (wanted === -1) return state;
        this.#collect(state - waiting, area, wanted);
        for (let lane = 0; lane < 32; lane++) if ((wanted >>> lane) & 1) memory.i32[at + lane] = collective.next;
        done = true;
      }
      if (done) continue;
      if (blocked === live) return allBlocked;
      const lost = [...groups].find(([state]) => this.#collectives[state - waiting]!.run);
      const collective = this.#collectives[lost![0] - waiting]!;
      const lane = 31 - Math.clz32(lost![1] & -lost![1]);
      throw kernelFault(
        "CUDA_ERROR_LAUNCH_TIMEOUT",
        `${this.#describe(collective.instruction, lane)} waits for lanes of its warp that never come (member mask ${hex(
          collective.mask?.(memory, area, lane) ?? -1,
        )}, there ${hex(lost![1])}): ${describeStall(this.kernel, memory, [area], lost![0])}`,
      );
    }
  }

  #collect(number: number, area: number, lanes: number): void {
    const collective = this.#collectives[number]!;
    try {
      this.#watch?.meet(number, lanes);
      collective.run!(this.#host.memory, area, lanes);
      this.#watch?.met?.(number, lanes);
    } catch (cause) {
      if (!(cause instanceof MatrixFault)) throw cause;
      const name = (cause.address & 15) !== 0 ? "CUDA_ERROR_MISALIGNED_ADDRESS" : "CUDA_ERROR_ILLEGAL_ADDRESS";
      const where = this.#describe(collective.instruction, cause.lane);
      throw kernelFault(name, `${where}: shared address ${cause.address} ${this.#sharedRange(cause.address, 16)}`);
    }
  }

  #deadlock(warps: number, warp: number, lane: number): never {
    const areas = Array.from({ length: warps }, (_, w) => this.#warps + w * this.kernel.warpBytes);
    this.#warp = areas[warp]!;
    const state = this.#host.memory.i32[(this.#warp >>> 2) + lane]!;
    const { instruction } = this.#collectives[state - waiting]!;
    throw kernelFault(
      "CUDA_ERROR_LAUNCH_TIMEOUT",
      `${this.#describe(instruction, lane)} waits for threads of its block that never come: ${describeStall(
        this.kernel,
        this.#host.memory,
        areas,
        state,
      )}`,
    );
  }

  #place(lane: number): ThreadPlace {
    const { i32 } = this.#host.memory;
    const at = (this.#warp >>> 2) + lane;
    const of = (slot: number) => i32[at + slot / 4]!;
    return {
      block: this.#block,
      thread: [of(warpSlots.threadX), of(warpSlots.threadY), of(warpSlots.threadZ)],
    };
  }

  #describe(instruction: Instruction, lane: number): string {
    return describePlace(this.kernel.entry.name, this.kernel.module, instruction, this.#place(lane));
  }

  #sharedRange(address: number, bytes: number): string {
    const size = this.#host.memory.i32[(this.#base + memoryMap.sharedBytes) >>> 2]!;
    const fault = address % bytes === 0 ? `is outside of the block's ${size} bytes` : `is not a multiple of ${bytes}`;
    return `${fault}; it is ${this.#describeShared(address)}`;
  }

  #imports(): Readonly<Record<string, unknown>> {
    const { sites } = this.kernel;
    return {
      memory: this.#host.memory.memory,
      base: this.#base,
      resolve: (address: bigint, site: number, lane: number, frame: number) =>
        this.#resolve(address, sites[site]!, lane, frame),
      fault: (address: number, site: number, lane: number) => {
        const instruction = sites[site]!;
        const bytes = accessBytes(instruction);
        const name = address % bytes === 0 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR_MISALIGNED_ADDRESS";
        const range = instruction.modifiers.includes("local")
          ? `is not inside the thread's ${this.kernel.entry.localBytes} bytes of local memory`
          : `of shared memory ${this.#sharedRange(address, bytes)}`;
        throw kernelFault(name, `${this.#describe(instruction, lane)}: address ${address} ${range}`);
      },
      check: this.#watch?.access ?? (() => {}),
      copies: this.#watch?.copies ?? (() => {}),
      meet: (number: number) => this.#watch?.meet(number, -1),
      enter: this.#watch?.flow?.enter ?? (() => {}),
      leave: this.#watch?.flow?.leave ?? (() => {}),
      step: this.#watch?.flow?.step ?? (() => {}),
      guarded: this.#watch?.flow?.guarded ?? (() => {}),
      trace: this.#watch?.flow?.trace ?? (() => 0),
      operand: this.#watch?.flow?.operand ?? (() => {}),
      trap: (site: number, lane: number) => {
        throw kernelFault("CUDA_ERROR_LAUNCH_FAILED", `${this.#describe(sites[site]!, lane)}: the kernel trapped`);
      },
      fma64,
      divide64,
      root64,
      lg2: Math.log2,
      sin: Math.sin,
      cos: Math.cos,
      tanh: Math.tanh,
      clock: () => process.hrtime.bigint(),
    };
  }

  /** Addresses that the fast path refused: generic windows, host memory, other devices; the rest are faults. */
  #resolve(
    signed: bigint,
    instruction: Instruction,
    lane: number,
    frame: number,
    bytes: number = accessBytes(instruction),
  ): number {
    const address = BigInt.asUintN(64, signed);
    const where = () => this.#describe(instruction, lane);
    const hexAddress = `0x${address.toString(16)}`;
    if (address % BigInt(bytes) !== 0n) {
      throw kernelFault(
        "CUDA_ERROR_MISALIGNED_ADDRESS",
        `${where()}: address ${hexAddress} is not a multiple of ${bytes}; it ${this.#describeAddress(address)}`,
      );
    }
    for (const [window, base, size] of [
      [sharedWindow, this.#base + memoryMap.shared, this.#host.memory.i32[(this.#base + memoryMap.sharedBytes) >>> 2]!],
      [localWindow, frame, this.kernel.entry.localBytes],
    ] as const) {
      if (address >= window && address < window + windowBytes) {
        const offset = Number(address - window);
        if (offset + bytes <= size) return base + offset;
      }
    }
    const found = this.#host.foreign(address, bytes);
    if (found !== undefined) return found;
    throw kernelFault(
      "CUDA_ERROR_ILLEGAL_ADDRESS",
      `${where()}: address ${hexAddress} ${this.#describeAddress(address)}`,
    );
  }

  /** What lies nearest to a generic address. */
  #describeAddress(address: bigint): string {
    const within = (window: bigint) => address >= window && address < window + windowBytes;
    if (within(sharedWindow)) return `is ${this.#describeShared(Number(address - sharedWindow))}`;
    if (!within(localWindow)) return this.#host.describeAddress(address);
    return `is byte ${address - localWindow} of the thread's ${this.kernel.entry.localBytes} bytes of local memory`;
  }

  #describeShared(address: number): string {
    const dynamicBytes = this.#host.memory.i32[(this.#base + memoryMap.dynamicSharedBytes) >>> 2]!;
    return new SharedBounds(this.kernel.sharedMemory, dynamicBytes).describe(address);
  }
}

function watchedRegion(run: RegionFunction, flow: FlowWatch): RegionFunction {
  return (area, frames, entry) => {
    flow.enter(area);
    const state = run(area, frames, entry);
    flow.leave(area);
    return state;
  };
}

function inOrder(): () => number {
  let next = 0;
  return () => next++;
}

function hex(mask: number): string {
  return `0x${(mask >>> 0).toString(16).padStart(8, "0")}`;
}

/** The operand that names the lanes which take part. */
function memberMask(reader: OperandReader): Collective["mask"] {
  const { name, modifiers, operands } = reader.instruction;
  if (name === "bar" || name === "barrier") return reader.reader(reader.at(0));
  if (!modifiers.includes("sync") || ["mma", "ldmatrix", "stmatrix", "wmma", "movmatrix"].includes(name))
    return undefined;
  return reader.reader(operands.at(-1)!);
}
