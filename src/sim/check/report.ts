import type { LaunchShape } from "../../driver/api.ts";
import { accessKinds } from "../compile/access.ts";
import type { CompiledKernel } from "../compile/kernel.ts";
import type { Instruction } from "../ptx/ast.ts";
import { describeLine, describePlace, kernelFault } from "../run/faults.ts";
import type { DeviceFault } from "./device-shadow.ts";
import type { SharedBounds } from "./shared-bounds.ts";
import type { SharedFault } from "./shared-shadow.ts";
import type { WarpLanes } from "./thread-order.ts";

/** The address that a kernel knows an offset of linear memory by, and what lies there: `4 bytes into the allocation of …`. */
export type DescribeOffset = (offset: number) => { readonly address: bigint; readonly where: string };

/** One access: by which thread and instruction. */
export interface Access {
  readonly thread: number;
  readonly site: number;
  readonly bytes: number;
  /** Of `accessKinds`. */
  readonly kind: number;
}

const verbs: Readonly<Record<number, string>> = {
  [accessKinds.read]: "reads",
  [accessKinds.write]: "writes",
  [accessKinds.atomic]: "updates",
  [accessKinds.asyncWrite]: "copies",
};

/** Throws CudaError with what a check has found, in words. Faults that no GPU reports are CUDA_ERROR_LAUNCH_FAILED. */
export class CheckReport {
  readonly #kernel: CompiledKernel;
  readonly #describe: DescribeOffset;
  #shape: LaunchShape | undefined;
  #bounds: SharedBounds | undefined;
  block: readonly [number, number, number] = [0, 0, 0];

  constructor(kernel: CompiledKernel, describe: DescribeOffset) {
    this.#kernel = kernel;
    this.#describe = describe;
  }

  begin(shape: LaunchShape, bounds: SharedBounds): void {
    this.#shape = shape;
    this.#bounds = bounds;
  }

  device(fault: DeviceFault, offset: number, own: Access): never {
    const { address, where } = this.#describe(fault.offset);
    const access = `${verbs[own.kind]} ${own.bytes} bytes at ${hex(this.#describe(offset).address)}`;
    if (fault.why === "unwritten") {
      const detail = `never-written memory: ${this.#who(own)} ${access}; the byte at ${hex(address)}, ${where}, has not been written`;
      throw kernelFault("CUDA_ERROR_LAUNCH_FAILED", detail);
    }
    const title = fault.why === "freed" ? "use after free" : "out of bounds";
    throw kernelFault(
      "CUDA_ERROR_ILLEGAL_ADDRESS",
      `${title}: ${this.#who(own)} ${access}; ${hex(address)} is ${where}`,
    );
  }

  local(offset: number, own: Access): never {
    const { localBytes } = this.#kernel.entry;
    const access = `${verbs[own.kind]} ${own.bytes} bytes at local address ${offset}`;
    throw kernelFault(
      "CUDA_ERROR_ILLEGAL_ADDRESS",
      `out of bounds: ${this.#who(own)} ${access}; the thread has ${localBytes} bytes of local memory`,
    );
  }

  outsideShared(offset: number, own: Access): never {
    throw kernelFault("CUDA_ERROR_ILLEGAL_ADDRESS", `out of bounds: ${this.#sharedAccess(offset, own)}`);
  }

  /** `offset`: where the access begins. */
  shared(fault: SharedFault, offset: number, own: Access): never {
    const access = this.#sharedAccess(offset, own);
    if (fault.why === "unwritten") {
      const what = fault.offset === offset ? "it" : `the byte at ${fault.offset}`;
      const detail = `never-written shared memory: ${access}; no thread of the block has written ${what}`;
      throw kernelFault("CUDA_ERROR_LAUNCH_FAILED", detail);
    }
    const { thread, site, kind } = fault.other;
    const copying = kind === "copies asynchronously";
    const wait = "cp.async.wait_group";
    const missing = copying ? (thread === own.thread ? wait : `${wait} and a barrier`) : "a barrier";
    const line = describeLine(this.#kernel.module, this.#instruction(site));
    throw kernelFault(
      "CUDA_ERROR_LAUNCH_FAILED",
      `data race: ${access}; thread (${this.#thread(thread)}) ${kind} there at ${line} without ${missing} in between`,
    );
  }

  /** Throws where threads that complete a barrier came to it at different instructions. */
  barrier(
    at: readonly { readonly thread: number; readonly instruction: Instruction; readonly counted: boolean }[],
  ): void {
    const first = at[0]!;
    if (!isAligned(first.instruction) || at.every(({ instruction }) => instruction === first.instruction)) return;
    const scope = (a: { thread: number }, b: { thread: number }) => !first.counted || a.thread >>> 5 === b.thread >>> 5;
    for (const { thread, instruction, ...one } of at) {
      const other = at.find((o) => o.instruction !== instruction && scope(o, { thread, ...one }));
      if (!other) continue;
      const line = describeLine(this.#kernel.module, other.instruction);
      const detail = `meets thread (${this.#thread(other.thread)}) at another instruction, ${line}; all threads must come to the same one`;
      this.#divergent(thread, instruction, detail);
    }
  }

  /** Throws where some threads of a warp do not come to a barrier that is for all of them, be it because they have exited. */
  partialWarp(instruction: Instruction, { warp, lanes, live }: WarpLanes): void {
    const count = Math.min(32, this.#threads - 32 * warp);
    const born = count === 32 ? -1 : (1 << count) - 1;
    if (lanes === born || !isAligned(instruction)) return;
    const missing = born & ~lanes;
    const other = this.#thread(32 * warp + lowest(missing));
    const fate = (live & missing & -missing) === 0 ? "has exited" : "does not come";
    const detail = `is reached by ${bits(lanes)} of the ${bits(born)} threads of its warp; thread (${other}) ${fate}`;
    this.#divergent(32 * warp + lowest(lanes), instruction, detail);
  }

  #divergent(thread: number, instruction: Instruction, detail: string): never {
    const where = describePlace(this.#kernel.entry.name, this.#kernel.module, instruction, this.#place(thread));
    throw kernelFault("CUDA_ERROR_LAUNCH_FAILED", `divergent barrier: ${where} ${detail}`);
  }

  #sharedAccess(offset: number, own: Access): string {
    const where = this.#bounds!.describe(offset);
    return `${this.#who(own)} ${verbs[own.kind]} ${own.bytes} bytes at shared address ${offset}, ${where}`;
  }

  #who({ site, thread }: Access): string {
    const { entry, module } = this.#kernel;
    return describePlace(entry.name, module, this.#instruction(site), this.#place(thread));
  }

  #instruction(site: number): Instruction {
    const { sites, collectives } = this.#kernel;
    return site < sites.length ? sites[site]! : collectives[site - sites.length]!.instruction;
  }

  get #threads(): number {
    const [x, y, z] = this.#shape!.block;
    return x * y * z;
  }

  #thread(number: number): readonly [number, number, number] {
    const [x, y] = this.#shape!.block;
    return [number % x, Math.floor(number / x) % y, Math.floor(number / (x * y))];
  }

  #place(thread: number) {
    return { block: this.block, thread: this.#thread(thread) };
  }
}

function hex(address: bigint): string {
  return `0x${address.toString(16)}`;
}

/** Of the barriers that all threads of a warp must come to: `bar` is `barrier.aligned`. */
function isAligned({ name, modifiers }: Instruction): boolean {
  return name === "bar" || modifiers.includes("aligned");
}

function lowest(mask: number): number {
  return 31 - Math.clz32(mask & -mask);
}

function bits(mask: number): number {
  let count = 0;
  for (let rest = mask; rest !== 0; rest &= rest - 1) count++;
  return count;
}
