import type { LaunchShape } from "../../driver/api.ts";
import { accessBytes, accessBytesMask, accessKindShift, accessKinds } from "../compile/access.ts";
import type { CompiledKernel } from "../compile/kernel.ts";
import { memoryMap, warpSlots } from "../memory-map.ts";
import type { Instruction } from "../ptx/ast.ts";
import type { Arrival } from "../run/barriers.ts";
import type { AccessObserver } from "../run/operands.ts";
import type { LinearMemory } from "../run/views.ts";
import type { KernelWatch } from "../run/watch.ts";
import type { DeviceShadow } from "./device-shadow.ts";
import { CheckReport, type DescribeOffset } from "./report.ts";
import { SharedBounds } from "./shared-bounds.ts";
import type { SharedShadow } from "./shared-shadow.ts";
import type { Release } from "./thread-order.ts";

/** What a device with checks keeps about its memory. */
export interface CheckedMemory {
  readonly device: DeviceShadow;
  readonly shared: SharedShadow;
  readonly describe: DescribeOffset;
}

// Read millions of times: not through the module's exports.
const { read, write, atomic } = accessKinds;
const { heap, locals } = memoryMap;

/**
 * Watches the launches of one kernel: is told of every access and every synchronization, and throws CudaError for the
 * first that is wrong. Instructions go by number: those of single lanes (the kernel's sites) first, then the collective
 * ones; threads by their number in the block.
 */
export class KernelChecks implements KernelWatch {
  readonly #kernel: CompiledKernel;
  readonly #linear: LinearMemory;
  readonly #base: number;
  readonly #device: DeviceShadow;
  readonly #shared: SharedShadow;
  readonly #report: CheckReport;
  readonly #cellShift: number;
  /** By number of the collective instruction: lanes wait for each other there, which `activemask` does not make them do. */
  readonly #synchronizing: readonly boolean[];
  readonly #localBytes: number;
  readonly #frameBytes: number;
  #bounds: SharedBounds;
  #warp = 0;
  #firstThread = 0;
  /** By barrier and warp: the last `bar.arrive` since the barrier was complete. */
  readonly #arrived = new Map<number, Map<number, Release>>();

  /** `base`: where the executor's part of memory begins. */
  constructor(kernel: CompiledKernel, linear: LinearMemory, base: number, memory: CheckedMemory) {
    this.#kernel = kernel;
    this.#linear = linear;
    this.#base = base;
    this.#device = memory.device;
    this.#shared = memory.shared;
    this.#bounds = new SharedBounds(kernel.sharedMemory, 0);
    this.#report = new CheckReport(kernel, memory.describe);
    this.#cellShift = 31 - Math.clz32(narrowestSharedAccess(kernel));
    this.#synchronizing = kernel.collectives.map(({ instruction }) => instruction.modifiers.includes("sync"));
    this.#localBytes = kernel.entry.localBytes;
    this.#frameBytes = (this.#localBytes + 15) & ~15;
  }

  begin(shape: LaunchShape): void {
    this.#bounds = new SharedBounds(this.#kernel.sharedMemory, shape.sharedBytes);
    this.#report.begin(shape, this.#bounds);
    this.#shared.begin(this.#bounds.bytes, this.#cellShift);
  }

  beginBlock(block: readonly [number, number, number]): void {
    this.#report.block = block;
    this.#arrived.clear();
    this.#shared.beginBlock();
  }

  /** What is reported from here on is of the warp with this area. */
  enterWarp(area: number): void {
    this.#warp = this.#warpOf(area);
    this.#firstThread = 32 * this.#warp;
  }

  /** An access that a lane is about to make, as the compiled code reports it. */
  readonly access = (address: number, packed: number, site: number, lane: number): void => {
    this.#access(address >>> 0, packed & accessBytesMask, packed >>> accessKindShift, site, lane);
  };

  /** A lane's cp.async.commit_group (-1), or its wait until at most `newest` groups are under way. */
  readonly copies = (newest: number, lane: number): void => {
    const thread = this.#firstThread + lane;
    if (newest < 0) this.#shared.commitCopies(thread);
    else this.#shared.waitForCopies(thread, newest);
  };

  /** Takes the accesses of collective instruction `number`. */
  observer(number: number): AccessObserver {
    const site = this.#kernel.sites.length + number;
    return (address, bytes, lane, writes) => {
      this.#access(address >>> 0, bytes, writes ? write : read, site, lane);
    };
  }

  meet(number: number, lanes: number): void {
    this.settle();
    if (this.#synchronizing[number]) this.#shared.order.meet(this.#warp, lanes, this.#live(this.#warp));
  }

  /** What lanes have read together they have read before any goes on. What they write is no more visible than by `st`. */
  met(number: number, lanes: number): void {
    this.settle();
    const { name, modifiers } = this.#kernel.collectives[number]!.instruction;
    if (name === "ldmatrix" || (name === "wmma" && modifiers[0] === "load")) this.meet(number, lanes);
  }

  /** The last write that was reported has happened. */
  settle(): void {
    if (!this.#shared.doubtful) return;
    const race = this.#shared.settle(this.#sharedMemory());
    if (race) this.#report.shared(race.fault, race.offset, { kind: write, ...race });
  }

  arrive(id: number, area: number): void {
    const warp = this.#warpOf(area);
    const releases = this.#arrived.get(id) ?? new Map<number, Release>();
    releases.set(warp, this.#shared.order.arrive(warp));
    this.#arrived.set(id, releases);
  }

  passTogether(instruction: Instruction, warps: number): void {
    this.settle();
    for (let warp = 0; warp < warps; warp++) {
      const live = this.#live(warp);
      if (live !== 0) this.#report.partialWarp(instruction, { warp, lanes: live, live });
    }
    this.#shared.order.pass([], [], true);
  }

  pass(id: number, arrivals: readonly Arrival[], whole: boolean): void {
    this.settle();
    const warps = new Map<number, number>();
    for (const { warp: area, lane } of arrivals) {
      const warp = this.#warpOf(area);
      warps.set(warp, (warps.get(warp) ?? 0) | (1 << lane));
    }
    const waiting = [...warps].map(([warp, lanes]) => ({ warp, lanes, live: this.#live(warp) }));
    const at = arrivals.map(({ warp, lane, site }) => ({
      thread: 32 * this.#warpOf(warp) + lane,
      instruction: site.instruction,
      counted: site.threads !== undefined,
    }));
    this.#report.barrier(at);
    for (const { warp, ...of } of waiting) {
      const { instruction } = at.find(({ thread }) => thread >>> 5 === warp)!;
      this.#report.partialWarp(instruction, { warp, ...of });
    }
    this.#shared.order.pass(waiting, [...(this.#arrived.get(id)?.values() ?? [])], whole);
    this.#arrived.delete(id);
  }

  #access(address: number, bytes: number, kind: number, site: number, lane: number): void {
    this.settle();
    const thread = this.#firstThread + lane;
    if (address >= heap) {
      const fault = this.#device.access(address, bytes, kind !== write, kind !== read);
      if (fault) this.#report.device(fault, address, { thread, site, bytes, kind });
    } else if (address - this.#base >= locals) {
      const offset = (address - this.#base - locals) % this.#frameBytes;
      if (offset + bytes > this.#localBytes) this.#report.local(offset, { thread, site, bytes, kind });
    } else this.#sharedAccess(address - this.#base - memoryMap.shared, bytes, kind, site, thread);
  }

  #sharedAccess(offset: number, bytes: number, kind: number, site: number, thread: number): void {
    if (!this.#bounds.contain(offset, bytes)) this.#report.outsideShared(offset, { thread, site, bytes, kind });
    const shared = this.#shared;
    const fault =
      kind === read
        ? shared.read(offset, bytes, thread, site)
        : kind === write
          ? shared.write(offset, bytes, thread, site)
          : kind === atomic
            ? shared.atomic(offset, bytes, thread, site)
            : shared.copy(offset, bytes, thread, site);
    if (fault) this.#report.shared(fault, offset, { thread, site, bytes, kind });
    if (shared.doubtful) shared.remember(this.#sharedMemory());
  }

  #sharedMemory(): Uint8Array {
    const begin = this.#base + memoryMap.shared;
    return this.#linear.u8.subarray(begin, begin + this.#bounds.bytes);
  }

  #warpOf(area: number): number {
    return (area - this.#base - memoryMap.warps) / this.#kernel.warpBytes;
  }

  /** The lanes of a warp that have not exited. */
  #live(warp: number): number {
    const area = this.#base + memoryMap.warps + warp * this.#kernel.warpBytes;
    return this.#linear.i32[(area + warpSlots.live) >>> 2]!;
  }
}

/** The fewest bytes that an instruction of the kernel moves to or from shared memory. */
function narrowestSharedAccess({ sites, collectives }: CompiledKernel): number {
  let narrowest = 16;
  const names = new Set(["ld", "st", "atom", "red", "cp"]);
  for (const instruction of sites) {
    const elsewhere = ["global", "local", "const", "param"].some((space) =>
      instruction.modifiers.some((m) => m === space || m.startsWith(`${space}::`)),
    );
    if (!names.has(instruction.name) || (elsewhere && instruction.name !== "cp")) continue;
    narrowest = Math.min(narrowest, accessBytes(instruction));
  }
  // A wmma instruction moves single elements, of one byte at least.
  return collectives.some(({ instruction }) => instruction.name === "wmma") ? 1 : narrowest;
}
