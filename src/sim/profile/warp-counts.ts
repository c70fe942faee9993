import { accessBytesMask, accessKindShift, accessKinds } from "../compile/access.ts";
import type { CompiledKernel } from "../compile/kernel.ts";
import { memoryMap } from "../memory-map.ts";
import type { Instruction } from "../ptx/ast.ts";
import { addCounts, type Counts, noCounts } from "./counts.ts";
import type { WarpVisitor } from "./lane-events.ts";
import { countSectors } from "./sectors.ts";
import { bankPasses } from "./shared-banks.ts";

/** Where an access goes. Constant memory and parameters have caches of their own and are not counted. */
type Space = "global" | "shared" | "local" | "elsewhere";

/** Counts by instruction what the warps of a kernel do. */
export class WarpCounts implements WarpVisitor {
  readonly #kernel: CompiledKernel;
  readonly #base: number;
  readonly #counts = new Map<Instruction, Counts>();
  /** By site, and by collective instruction. */
  readonly #sites: readonly Counts[];
  readonly #collectives: readonly Counts[];
  /** By fragment: how often warps ran it, and with how many lanes in all. */
  readonly #runs: Float64Array;
  readonly #lanes: Float64Array;

  /** `base`: where the executor's part of memory begins. The kernel must have been compiled with `flow`. */
  constructor(kernel: CompiledKernel, base: number) {
    this.#kernel = kernel;
    this.#base = base;
    this.#runs = new Float64Array(kernel.fragments!.length);
    this.#lanes = new Float64Array(kernel.fragments!.length);
    this.#sites = kernel.sites.map((instruction) => this.#countsOf(instruction));
    this.#collectives = kernel.collectives.map(({ instruction }) => this.#countsOf(instruction));
  }

  #countsOf(instruction: Instruction): Counts {
    let counts = this.#counts.get(instruction);
    if (!counts) {
      counts = noCounts();
      this.#counts.set(instruction, counts);
    }
    return counts;
  }

  fragment(fragment: number, lanes: number): void {
    this.#runs[fragment]!++;
    this.#lanes[fragment]! += countLanes(lanes);
  }

  guarded(site: number, lanes: number): void {
    this.#sites[site]!.laneInstructions += countLanes(lanes);
  }

  access(site: number, lanes: number, addresses: Uint32Array, access: number): void {
    const counts = this.#sites[site]!;
    const [kind, bytes] = [access >>> accessKindShift, access & accessBytesMask];
    const space = this.#spaceOf(this.#kernel.sites[site]!, firstOf(addresses, lanes));
    const all = bytes * countLanes(lanes);
    if (kind === accessKinds.atomic && (space === "global" || space === "shared")) {
      const distinct = countDistinct(addresses, lanes);
      counts.atomics += countLanes(lanes);
      counts.atomicConflicts += countLanes(lanes) - distinct;
    }
    if (space === "global") {
      const { sectors, ideal } = countSectors(addresses, lanes, bytes);
      counts.idealSectors += ideal;
      if (kind === accessKinds.read) {
        counts.readBytes += all;
        counts.readSectors += sectors;
      } else {
        counts.writtenBytes += all;
        counts.writtenSectors += sectors;
      }
    } else if (space === "shared") {
      const { passes, ideal } = bankPasses(addresses, lanes, bytes);
      counts.sharedBytes += all;
      counts.sharedPasses += passes;
      counts.idealPasses += ideal;
    } else if (space === "local") counts.localBytes += all;
  }

  /** `lanes` of a warp do a collective instruction. */
  collective(number: number, lanes: number): void {
    const counts = this.#collectives[number]!;
    counts.warpInstructions++;
    counts.activeLanes += countLanes(lanes);
    counts.laneInstructions += countLanes(lanes);
  }

  /** Adds what a collective instruction moved. */
  collectiveTraffic(number: number, traffic: Partial<Counts>): void {
    addCounts(this.#collectives[number]!, traffic);
  }

  isGlobal(address: number): boolean {
    return address >= memoryMap.heap;
  }

  #spaceOf({ name, modifiers }: Instruction, address: number): Space {
    if (name === "ld" && modifiers.includes("const")) return "elsewhere";
    if (address >= memoryMap.heap) return "global";
    return address - this.#base >= memoryMap.locals ? "local" : "shared";
  }

  /** Everything that was counted, for instructions that warps came to, in the order of the text. */
  byInstruction(): [Instruction, Counts][] {
    const result: [Instruction, Counts][] = [];
    this.#kernel.fragments!.forEach(({ instructions, ending }, f) => {
      const runs = this.#runs[f]!;
      if (runs === 0) return;
      const lanes = this.#lanes[f]!;
      const jump = ending.kind === "collective" ? undefined : ending.jump;
      for (const instruction of jump ? [...instructions, jump] : instructions) {
        const counts = { ...noCounts(), ...this.#counts.get(instruction) };
        counts.warpInstructions += runs;
        counts.activeLanes += lanes;
        if (!instruction.guard || instruction === jump) counts.laneInstructions += lanes;
        result.push([instruction, counts]);
      }
    });
    this.#kernel.collectives.forEach(({ instruction }, number) => {
      const counts = this.#collectives[number]!;
      if (counts.warpInstructions > 0) result.push([instruction, { ...counts }]);
    });
    return result.sort(([a], [b]) => a.line - b.line);
  }
}

/** How many lanes a mask has. */
export function countLanes(mask: number): number {
  let count = 0;
  for (let rest = mask; rest !== 0; rest &= rest - 1) count++;
  return count;
}

function firstOf(addresses: Uint32Array, lanes: number): number {
  return addresses[31 - Math.clz32(lanes & -lanes)]!;
}

function countDistinct(addresses: Uint32Array, lanes: number): number {
  return new Set(addresses.filter((_, lane) => (lanes >>> lane) & 1)).size;
}
