import { OutOfMemoryError } from "../../base/errors.ts";
import type { DevicePtr, LaunchShape } from "../../driver/api.ts";
import { deviceBase, memoryMap } from "../memory-map.ts";
import type { KernelHost, KernelInstance } from "../run/launch.ts";
import { LinearMemory } from "../run/views.ts";
import { type Allocation, Arena } from "./arena.ts";
import { simError } from "./errors.ts";
import type { HostMemory } from "./host-memory.ts";

const totalBytes = 3.5 * 2 ** 30;

/** Memory that is not the device's own, copied into it while a kernel that uses it runs. */
interface Mirror {
  readonly begin: bigint;
  readonly copy: Allocation;
  readonly source: () => Uint8Array;
}

/** One simulated GPU: its memory, and the running of kernels in it. */
export class SimDevice implements KernelHost {
  readonly ordinal: number;
  readonly deviceBase: bigint;
  readonly checkAccess = undefined;
  /** Devices whose memory kernels here may use. */
  readonly peers = new Set<SimDevice>();
  readonly #host: HostMemory;
  readonly #mirrors: Mirror[] = [];
  #memory: LinearMemory | undefined;
  #arena: Arena | undefined;

  constructor(ordinal: number, host: HostMemory) {
    this.ordinal = ordinal;
    this.deviceBase = deviceBase(ordinal);
    this.#host = host;
  }

  get totalBytes(): number {
    return totalBytes;
  }

  get freeBytes(): number {
    return this.#arena?.freeBytes ?? totalBytes;
  }

  get memory(): LinearMemory {
    this.#memory ??= new LinearMemory();
    return this.#memory;
  }

  get arena(): Arena {
    this.#arena ??= new Arena(this.memory, totalBytes);
    return this.#arena;
  }

  allocate(bytes: number, what = "device memory"): DevicePtr {
    const allocation = this.arena.allocate(bytes);
    if (allocation) return (this.deviceBase + BigInt(allocation.offset)) as DevicePtr;
    throw new OutOfMemoryError(
      `sim: ${bytes} bytes of ${what} wanted, ${this.freeBytes} of ${totalBytes} are free`,
      bytes,
      this.freeBytes,
    );
  }

  /** Device or pinned memory as bytes. Throws CudaError for what is not inside one allocation. */
  bytes(ptr: DevicePtr, bytes: number, symbol: string): Uint8Array {
    const offset = this.#offset(ptr);
    if (bytes === 0) return new Uint8Array(0);
    const pinned = offset === undefined ? this.#host.find(ptr) : undefined;
    if (pinned && ptr + BigInt(bytes) <= pinned.begin + BigInt(pinned.block.buffer.byteLength)) {
      return new Uint8Array(pinned.block.buffer, Number(ptr - pinned.begin), bytes);
    }
    if (offset === undefined || !this.arena.find(offset, bytes)) {
      const name = "CUDA_ERROR_INVALID_VALUE";
      throw simError(symbol, name, `${bytes} bytes at 0x${ptr.toString(16)} ${this.describeAddress(ptr)}`);
    }
    return this.memory.u8.subarray(offset, offset + bytes);
  }

  owns(ptr: bigint): boolean {
    return this.#offset(ptr) !== undefined;
  }

  #offset(ptr: bigint): number | undefined {
    const offset = ptr - this.deviceBase;
    return offset >= BigInt(memoryMap.heap) && offset < 2n ** 32n ? Number(offset) : undefined;
  }

  free(ptr: DevicePtr): void {
    const offset = this.#offset(ptr);
    if (offset === undefined || !this.arena.free(offset)) {
      throw simError("cuMemFree_v2", "CUDA_ERROR_INVALID_VALUE", `nothing was allocated at 0x${ptr.toString(16)}`);
    }
  }

  run(kernel: KernelInstance, shape: LaunchShape, parameters: Uint8Array): void {
    try {
      kernel.run(shape, parameters);
    } finally {
      for (const { copy, source } of this.#mirrors) {
        source().set(this.memory.u8.subarray(copy.offset, copy.offset + copy.bytes));
        this.arena.free(copy.offset);
      }
      this.#mirrors.length = 0;
    }
  }

  foreign(address: bigint, bytes: number): number | undefined {
    const known = this.#mirrors.find(({ begin, copy }) => address >= begin && address < begin + BigInt(copy.bytes));
    const mirror = known ?? this.#mirror(address);
    if (!mirror) return undefined;
    const offset = Number(address - mirror.begin);
    return offset + bytes <= mirror.copy.bytes ? mirror.copy.offset + offset : undefined;
  }

  #mirror(address: bigint): Mirror | undefined {
    const pinned = this.#host.find(address);
    if (pinned) {
      const { block, begin } = pinned;
      return this.#addMirror(begin, block.buffer.byteLength, () => new Uint8Array(block.buffer));
    }
    for (const peer of this.peers) {
      const offset = peer.#offset(address);
      const allocation = offset === undefined ? undefined : peer.arena.find(offset, 1);
      if (!allocation) continue;
      const begin = peer.deviceBase + BigInt(allocation.offset);
      const source = () => peer.memory.u8.subarray(allocation.offset, allocation.offset + allocation.bytes);
      return this.#addMirror(begin, allocation.bytes, source);
    }
    return undefined;
  }

  #addMirror(begin: bigint, bytes: number, source: () => Uint8Array): Mirror {
    const offset = Number(this.allocate(bytes, "memory shared with a kernel") - this.deviceBase);
    const mirror = { begin, copy: { offset, bytes }, source };
    this.memory.u8.set(source(), offset);
    this.#mirrors.push(mirror);
    return mirror;
  }

  describeAddress(address: bigint): string {
    const offset = this.#offset(address);
    const nearest = offset === undefined ? undefined : this.arena.nearest(offset);
    if (offset === undefined || !nearest) return "is in no memory of this device";
    const begin = `0x${(this.deviceBase + BigInt(nearest.offset)).toString(16)}`;
    const away = offset - nearest.offset;
    const where =
      away < 0
        ? `${-away} bytes before`
        : away < nearest.bytes
          ? `${away} bytes into`
          : `${away - nearest.bytes} bytes behind`;
    return `is ${where} the allocation of ${nearest.bytes} bytes at ${begin}`;
  }
}
