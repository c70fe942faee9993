import { availableParallelism } from "node:os";
import { OutOfMemoryError } from "../../base/errors.ts";
import { settings } from "../../base/settings.ts";
import type { DevicePtr, LaunchShape } from "../../driver/api.ts";
import { DeviceShadow } from "../check/device-shadow.ts";
import type { CheckedMemory } from "../check/kernel-checks.ts";
import { describeDistance } from "../check/shared-bounds.ts";
import { SharedShadow } from "../check/shared-shadow.ts";
import { ThreadOrder } from "../check/thread-order.ts";
import { deviceBase, memoryMap } from "../memory-map.ts";
import type { KernelHost, KernelInstance } from "../run/launch.ts";
import { LinearMemory } from "../run/views.ts";
import type { LaunchWatcher } from "../run/watch.ts";
import { Team } from "../threads/team.ts";
import { type Allocation, Arena, checkedArena } from "./arena.ts";
import { simError } from "./errors.ts";
import type { HostMemory } from "./host-memory.ts";

const totalBytes = 3.5 * 2 ** 30;

function threads(): number {
  return settings.simThreads() ?? Math.min(availableParallelism(), memoryMap.executors);
}

/** Memory that is not the device's own, copied into it while a kernel that uses it runs. */
interface Mirror {
  readonly begin: bigint;
  readonly copy: Allocation;
  readonly source: () => Uint8Array;
  /** The device it belongs to, and where there. */
  readonly peer: { readonly device: SimDevice; readonly offset: number } | undefined;
}

/** One simulated GPU: its memory, and the running of kernels in it. */
export class SimDevice implements KernelHost {
  readonly ordinal: number;
  readonly deviceBase: bigint;
  /** Kernels are watched, see docs/sim.md. */
  readonly checks: boolean;
  /** Devices whose memory kernels here may use. */
  readonly peers = new Set<SimDevice>();
  /** Who sees the kernels that run; undefined for nobody. */
  watcher: LaunchWatcher | undefined;
  readonly #host: HostMemory;
  readonly #mirrors: Mirror[] = [];
  #memory: LinearMemory | undefined;
  #arena: Arena | undefined;
  #checked: CheckedMemory | undefined;
  #team: Team | undefined;

  constructor(ordinal: number, host: HostMemory, checks = false) {
    this.checks = checks;
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
    this.#memory ??= new LinearMemory({ shared: !this.checks && threads() > 1 });
    return this.#memory;
  }

  get arena(): Arena {
    this.#arena ??= new Arena(this.memory, totalBytes, this.checked && checkedArena(this.checked.device));
    return this.#arena;
  }

  get checked(): CheckedMemory | undefined {
    if (!this.checks) return undefined;
    this.#checked ??= {
      device: new DeviceShadow(),
      shared: new SharedShadow(new ThreadOrder()),
      describe: (offset) => this.#describeOffset(offset),
    };
    return this.#checked;
  }

  allocate(bytes: number, what = "device memory"): DevicePtr {
    const allocation = this.arena.allocate(bytes, what);
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

  /** The same, to be written to. */
  writable(ptr: DevicePtr, bytes: number, symbol: string): Uint8Array {
    const memory = this.bytes(ptr, bytes, symbol);
    const offset = this.#offset(ptr);
    if (offset !== undefined) this.checked?.device.write(offset, bytes);
    return memory;
  }

  /** Copies from a device's memory, which may be this one's, or from pinned memory. */
  copy(dst: DevicePtr, from: SimDevice, src: DevicePtr, bytes: number, symbol: string): void {
    this.bytes(dst, bytes, symbol).set(from.bytes(src, bytes, symbol));
    const [to, at] = [this.#offset(dst), from.#offset(src)];
    if (to === undefined) return;
    // What was never written stays so in the copy.
    if (at !== undefined && from.checked) this.checked?.device.copy(to, from.checked.device, at, bytes);
    else this.checked?.device.write(to, bytes);
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
      if (this.memory.shared && Team.isWorthwhile(kernel, shape)) {
        this.#team ??= new Team(this, threads());
        this.#team.run(kernel, shape, parameters);
      } else kernel.run(shape, parameters);
    } finally {
      for (const { copy, source, peer } of this.#mirrors) {
        source().set(this.memory.u8.subarray(copy.offset, copy.offset + copy.bytes));
        if (peer && this.checked)
          peer.device.checked?.device.copy(peer.offset, this.checked.device, copy.offset, copy.bytes);
        this.arena.free(copy.offset, true);
      }
      this.#mirrors.length = 0;
    }
  }

  /** Ends the threads that help to run kernels; the next launch starts others. */
  dismissThreads(): void {
    this.#team?.[Symbol.dispose]();
    this.#team = undefined;
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
      return this.#addMirror(begin, block.buffer.byteLength, () => new Uint8Array(block.buffer), undefined);
    }
    for (const peer of this.peers) {
      const offset = peer.#offset(address);
      const allocation = offset === undefined ? undefined : peer.arena.find(offset, 1);
      if (!allocation) continue;
      const begin = peer.deviceBase + BigInt(allocation.offset);
      const source = () => peer.memory.u8.subarray(allocation.offset, allocation.offset + allocation.bytes);
      return this.#addMirror(begin, allocation.bytes, source, { device: peer, offset: allocation.offset });
    }
    return undefined;
  }

  #addMirror(begin: bigint, bytes: number, source: () => Uint8Array, peer: Mirror["peer"]): Mirror {
    const what = peer ? "memory of a peer" : "pinned host memory";
    const offset = Number(this.allocate(bytes, what) - this.deviceBase);
    const mirror: Mirror = { begin, copy: { offset, bytes, what }, source, peer };
    this.memory.u8.set(source(), offset);
    if (peer?.device.checked) this.checked?.device.copy(offset, peer.device.checked.device, peer.offset, bytes);
    else this.checked?.device.write(offset, bytes);
    this.#mirrors.push(mirror);
    return mirror;
  }

  describeAddress(address: bigint): string {
    const offset = this.#offset(address);
    const nearest = offset === undefined ? undefined : this.arena.nearest(offset);
    const pinned = offset === undefined ? this.#host.nearest(address) : undefined;
    if (pinned) {
      const distance = describeDistance(Number(address - pinned.begin), pinned.bytes);
      return `is ${distance} the pinned host memory of ${pinned.bytes} bytes at 0x${pinned.begin.toString(16)}`;
    }
    if (offset === undefined || !nearest) return "is in no memory of this device";
    return `is ${this.#describeOffset(offset).where}`;
  }

  /** The address that kernels know an offset of linear memory by, and where it lies. */
  #describeOffset(offset: number): { readonly address: bigint; readonly where: string } {
    const freed = this.arena.findFreed(offset);
    const near = freed ?? this.arena.nearest(offset);
    const mirror = this.#mirrors.find(({ copy }) => copy.offset === near?.offset);
    const base = mirror ? mirror.begin - BigInt(mirror.copy.offset) : this.deviceBase;
    const address = base + BigInt(offset);
    if (!near) return { address, where: "in no memory of this device" };
    const begin = `0x${(base + BigInt(near.offset)).toString(16)}`;
    const distance = describeDistance(offset - near.offset, near.bytes);
    const range = `${near.bytes} bytes at ${begin} (${near.what})`;
    return { address, where: freed ? `${distance} freed memory, ${range}` : `${distance} the allocation of ${range}` };
  }
}
