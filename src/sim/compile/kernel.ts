import { maximumPages, memoryMap, waiting, warpSlots } from "../memory-map.ts";
import type { Entry, Instruction, PtxModule, Variable } from "../ptx/ast.ts";
import type { FlowReports } from "../run/watch.ts";
import { type WasmModule, wasm } from "../wasm/host.ts";
import { encodeModule } from "../wasm/module.ts";
import { BitSet } from "./bits.ts";
import { foldConstants } from "./constants.ts";
import { registersOf } from "./effects.ts";
import { cutFragments, type Fragment } from "./fragments.ts";
import { functionIndex, helperFunctions, imports } from "./helpers.ts";
import { type KernelContext, registerType } from "./lane.ts";
import { analyzeLiveness } from "./liveness.ts";
import { type MatrixProduct, matrixProductCode, matrixProductOf } from "./matrix-product.ts";
import { looseRegisters } from "./nan.ts";
import { type Homes, type KernelPlan, regionFunction } from "./region-code.ts";
import { splitRegions } from "./regions.ts";
import { guardedSharedLayout, type SharedLayout, sharedLayout } from "./shared-layout.ts";
import { type CollectiveWriter, collectiveWriter } from "./warp-collectives.ts";
import { warpFunction } from "./warp-function.ts";

/** An instruction that lanes do together, and the fragment behind it. */
export interface CollectiveSite {
  readonly instruction: Instruction;
  readonly next: number;
  /** Lanes find the next collective instruction at once, with nothing in between: its number. */
  readonly follower: number | undefined;
}

/** A kernel as WebAssembly; still to be bound to a device's memory. */
export interface CompiledKernel {
  /** Without its statements. */
  readonly entry: Omit<Entry, "body">;
  /** The module's name and source files, for reports. */
  readonly module: Pick<PtxModule, "name" | "files">;
  /** No block can see what another one does: they may run at the same time. */
  readonly independentBlocks: boolean;
  readonly wasm: WasmModule;
  /** The number of its region, by fragment. Region n is the export `r<n>`; `warp` runs a warp, see warpFunction. */
  readonly regionOf: readonly number[];
  readonly collectives: readonly CollectiveSite[];
  readonly homes: Homes;
  /** The size of one warp's area. */
  readonly warpBytes: number;
  readonly sharedMemory: SharedLayout;
  readonly sites: readonly Instruction[];
  /** What the kernel was cut into, where it was compiled with `flow`. */
  readonly fragments: readonly Fragment[] | undefined;
}

export interface CompileOptions {
  readonly deviceBase: bigint;
  /** Device addresses of the module's global and constant variables. */
  readonly globalAddress: (variable: Variable) => bigint;
  /** The code reports its accesses and collective instructions, see KernelWatch. */
  readonly checked: boolean;
  /** It also reports how lanes go through it, see FlowWatch. */
  readonly flow?: FlowReports | undefined;
  /** Whether the memory is one that threads share. */
  readonly shared: boolean;
}

/**
 * Translates one kernel: its fragments between collective instructions become functions that run a warp's lanes one
 * after another. Throws UnsupportedError for an instruction that is not known.
 */
export function compileKernel(entry: Entry, module: PtxModule, options: CompileOptions): CompiledKernel {
  // What watches a kernel sees it as it was written.
  const code = options.checked || options.flow ? entry : { ...entry, body: foldConstants(entry.body) };
  const { fragments, regions } = splitRegions(cutFragments(code, module.name));
  const liveness = analyzeLiveness(fragments, entry.registers.length);
  const collectiveNumbers = new Map<number, number>();
  fragments.forEach(({ ending }, f) => {
    if (ending.kind === "collective") collectiveNumbers.set(f, collectiveNumbers.size);
  });
  const collectives = fragments.flatMap(({ ending }) => {
    if (ending.kind !== "collective") return [];
    // Lanes that are watched come through every fragment, also through one without instructions.
    const goesOn = !options.flow && fragments[ending.next]!.instructions.length === 0;
    const follower = goesOn ? collectiveNumbers.get(ending.next) : undefined;
    return [{ instruction: ending.instruction, next: ending.next, follower }];
  });

  const kept = new BitSet(entry.registers.length);
  for (const { instruction, next } of collectives) {
    kept.addAll(liveness.liveIn[next]!);
    const { read, written } = registersOf(instruction);
    for (const { index } of [...read, ...written]) kept.add(index);
  }
  for (const f of regions[0]!.resumptions) kept.addAll(liveness.liveIn[f]!);
  const homes = new Map<number, number>();
  let warpBytes: number = warpSlots.registers;
  for (const index of kept) {
    homes.set(index, warpBytes);
    warpBytes += registerType(entry.registers[index]!).value.endsWith("64") ? 256 : 128;
  }

  // Guards between variables would move them to other banks.
  const sharedMemory = options.checked && !options.flow ? guardedSharedLayout(entry) : sharedLayout(entry);
  const sites: Instruction[] = [];
  const context: KernelContext = {
    module: module.name,
    kernel: entry.name,
    deviceBase: options.deviceBase,
    symbolAddress: (variable) => {
      if (variable.space === "global" || variable.space === "const") return options.globalAddress(variable);
      if (variable.space !== "shared") return BigInt(variable.offset);
      const range = sharedMemory.ranges.find(({ name }) => name === variable.name);
      return BigInt(range ? range.offset : sharedMemory.dynamicOffset);
    },
    localBytes: entry.localBytes,
    parameterBytes: entry.parameterBytes,
    checked: options.checked,
    flow: options.flow,
    loose: looseRegisters(entry),
    sites,
  };
  const plan: KernelPlan = {
    fragments,
    registers: entry.registers,
    liveness,
    homes,
    collectives: collectiveNumbers,
    context,
  };
  const regionOf: number[] = [];
  regions.forEach(({ first, end }, r) => {
    for (let f = first; f < end; f++) regionOf[f] = r;
  });
  const products = [
    ...new Set(collectives.map(({ instruction }) => matrixProductOf(instruction)).filter((p) => p !== undefined)),
  ];
  const before = [...helperFunctions(), ...products.map(matrixProductCode)];
  const matrixFunction = (product: MatrixProduct): number =>
    imports.length + before.length - products.length + products.indexOf(product);
  const regionFunctions = regions.map((_, r) => imports.length + before.length + r);
  const warpCollectives = collectives.map(({ instruction, next, follower }, number) => {
    const write = collectiveWriter({ instruction, homes, matrixFunction });
    return {
      next: follower === undefined ? next : waiting + follower,
      write: write && options.checked ? watchedWriter(instruction, number, write) : write,
    };
  });
  const functions = [
    ...before.map((code) => ({ code })),
    ...regions.map((region, r) => ({ code: regionFunction(region, plan), exportName: `r${r}` })),
    { code: warpFunction(regionOf, regionFunctions, warpCollectives, options.flow !== undefined), exportName: "warp" },
  ];
  const bytes = encodeModule(imports, functions, { maximumPages, shared: options.shared });
  const { body, ...facts } = entry;
  return {
    entry: facts,
    module: { name: module.name, files: module.files },
    independentBlocks: !body.some(
      (statement) => "instruction" in statement && reachesOtherBlocks(statement.instruction),
    ),
    wasm: new wasm.Module(bytes),
    regionOf,
    collectives,
    homes,
    warpBytes,
    sharedMemory,
    sites,
    fragments: options.flow && fragments,
  };
}

/** The same, telling the checks; undefined for an instruction whose accesses they must see, which JavaScript does then. */
function watchedWriter(
  { name }: Instruction,
  number: number,
  { mask, run }: CollectiveWriter,
): CollectiveWriter | undefined {
  if (name === "ldmatrix") return undefined;
  return {
    mask,
    run: (c, locals, exit) => {
      c.i32(number).call(functionIndex("meet"));
      run(c, locals, exit);
    },
  };
}

/** Atomic operations on memory that other blocks see, and what orders accesses to it. */
function reachesOtherBlocks({ name, modifiers }: Instruction): boolean {
  if (name === "atom" || name === "red") return !modifiers.some((m) => m.startsWith("shared"));
  if (name === "membar" || name === "fence") return !modifiers.includes("cta");
  const ordered = ["volatile", "relaxed", "acquire", "release", "mmio"];
  return (
    (name === "ld" || name === "st") && !modifiers.includes("shared") && modifiers.some((m) => ordered.includes(m))
  );
}

/** The most warps of a kernel that fit where their areas lie. */
export function warpCapacity(kernel: CompiledKernel): number {
  return Math.floor((memoryMap.warpsEnd - memoryMap.warps) / kernel.warpBytes);
}
