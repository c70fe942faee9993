import type { DevicePtr, HostBlock } from "../../driver/api.ts";
import { hostBase } from "../memory-map.ts";

/** Between blocks. */
const roomBytes = 4096n;

/** Pinned host memory of one process: kernels of every simulated device may use it through `devicePtr`. */
export class HostMemory {
  readonly #blocks = new Map<HostBlock, { readonly begin: bigint; readonly bytes: number }>();
  #next = hostBase;

  allocate(bytes: number): HostBlock {
    const begin = this.#next;
    // Addresses are not used again, so that one that was freed is found out.
    this.#next += BigInt(Math.ceil(bytes / 4096) * 4096) + roomBytes;
    const block = { address: 0n, buffer: new ArrayBuffer(bytes), devicePtr: begin as DevicePtr };
    this.#blocks.set(block, { begin, bytes });
    return block;
  }

  has(block: HostBlock): boolean {
    return this.#blocks.has(block);
  }

  free(block: HostBlock): boolean {
    return this.#blocks.delete(block);
  }

  /** The block that an address lies in or, in the unused room between blocks, just behind. */
  nearest(address: bigint): { readonly begin: bigint; readonly bytes: number } | undefined {
    for (const { begin, bytes } of this.#blocks.values()) {
      if (address >= begin && address < begin + BigInt(bytes) + roomBytes) return { begin, bytes };
    }
    return undefined;
  }

  /** The block that holds an address, and where in it. */
  find(address: bigint): { block: HostBlock; begin: bigint } | undefined {
    for (const [block, { begin, bytes }] of this.#blocks) {
      if (address >= begin && address < begin + BigInt(bytes)) return { block, begin };
    }
    return undefined;
  }
}
