import type { DeviceShadow } from "../check/device-shadow.ts";
import { memoryMap } from "../memory-map.ts";
import type { LinearMemory } from "../run/views.ts";

export interface Allocation {
  /** Offset in the device's linear memory. */
  readonly offset: number;
  readonly bytes: number;
  /** Who it is for, in reports. */
  readonly what: string;
}

export interface ArenaOptions {
  /** Memory kept free behind an allocation, so that running past its end does not land in the next one; a multiple of 512. */
  readonly guardBytes: (bytes: number) => number;
  /** How much freed memory is kept from being allocated again, so that late uses of it are found out. */
  readonly quarantineBytes: number;
  /** Is told what is allocated and freed. */
  readonly shadow: DeviceShadow | undefined;
}

const granule = 512;

/** For a device with checks: wide guards, as addresses cost nothing, and a quarantine. */
export function checkedArena(shadow: DeviceShadow): ArenaOptions {
  const guardBytes = (bytes: number) =>
    Math.ceil(Math.min(Math.max(bytes, minimumGuardBytes), maximumGuardBytes) / granule) * granule;
  return { guardBytes, quarantineBytes: 256 * 2 ** 20, shadow };
}
const minimumGuardBytes = 4096;
const maximumGuardBytes = 2 ** 20;

const defaults: ArenaOptions = { guardBytes: () => 512, quarantineBytes: 0, shadow: undefined };

/** First-fit allocation in a device's linear memory above its heap's begin. Offsets are multiples of 512. */
export class Arena {
  readonly #memory: LinearMemory;
  /** By offset. */
  readonly #live = new Map<number, Allocation>();
  /** Free ranges in order of their offsets; the last has no end but that of the memory. */
  #free: { offset: number; bytes: number }[];
  readonly totalBytes: number;
  readonly #options: ArenaOptions;
  #usedBytes = 0;
  /** Freed and not yet to be used again, the oldest first. */
  readonly #quarantine: Allocation[] = [];
  #quarantinedBytes = 0;

  constructor(memory: LinearMemory, totalBytes: number, options = defaults) {
    this.#memory = memory;
    this.#options = options;
    this.totalBytes = totalBytes;
    this.#free = [{ offset: memoryMap.heap, bytes: 2 ** 32 - memoryMap.heap }];
  }

  get freeBytes(): number {
    return this.totalBytes - this.#usedBytes;
  }

  get allocations(): ReadonlyMap<number, Allocation> {
    return this.#live;
  }

  /** Undefined when there is no room. */
  allocate(bytes: number, what: string): Allocation | undefined {
    for (;;) {
      const allocation = this.#allocate(bytes, what);
      if (allocation || this.#quarantine.length === 0) return allocation;
      this.#release(this.#quarantine.shift()!);
    }
  }

  #allocate(bytes: number, what: string): Allocation | undefined {
    const size = Math.ceil(bytes / granule) * granule;
    const whole = size + this.#options.guardBytes(bytes);
    if (size > this.freeBytes) return undefined;
    const at = this.#free.findIndex((range) => range.bytes >= whole);
    const range = this.#free[at];
    if (!range || !this.#memory.reserve(range.offset + whole)) return undefined;
    const allocation = { offset: range.offset, bytes, what };
    if (range.bytes === whole) this.#free.splice(at, 1);
    else this.#free[at] = { offset: range.offset + whole, bytes: range.bytes - whole };
    this.#live.set(allocation.offset, allocation);
    this.#usedBytes += size;
    this.#options.shadow?.allocate(allocation.offset, bytes);
    return allocation;
  }

  /** False when nothing was allocated there. `forgotten`: nobody can have kept its address, so it may be used again at once. */
  free(offset: number, forgotten = false): boolean {
    const allocation = this.#live.get(offset);
    if (!allocation) return false;
    this.#live.delete(offset);
    this.#usedBytes -= Math.ceil(allocation.bytes / granule) * granule;
    this.#options.shadow?.free(offset, allocation.bytes);
    this.#quarantinedBytes += allocation.bytes;
    if (forgotten) this.#release(allocation);
    else this.#quarantine.push(allocation);
    while (this.#quarantinedBytes > this.#options.quarantineBytes) this.#release(this.#quarantine.shift()!);
    return true;
  }

  /** Makes room for others. */
  #release({ offset, bytes }: Allocation): void {
    this.#quarantinedBytes -= bytes;
    this.#options.shadow?.forget(offset, bytes);
    let begin = offset;
    let end = offset + Math.ceil(bytes / granule) * granule + this.#options.guardBytes(bytes);
    const kept = this.#free.filter((range) => {
      if (range.offset + range.bytes === begin) begin = range.offset;
      else if (range.offset === end) end += range.bytes;
      else return true;
      return false;
    });
    const at = kept.findIndex((range) => range.offset > begin);
    kept.splice(at < 0 ? kept.length : at, 0, { offset: begin, bytes: end - begin });
    this.#free = kept;
  }

  /** The allocation that holds `bytes` bytes at `offset`. */
  find(offset: number, bytes: number): Allocation | undefined {
    const nearest = this.nearest(offset);
    return nearest && offset >= nearest.offset && offset + bytes <= nearest.offset + nearest.bytes
      ? nearest
      : undefined;
  }

  /** The live allocation whose range is closest. */
  nearest(offset: number): Allocation | undefined {
    return closest(this.#live.values(), offset);
  }

  /** The freed allocation that held an offset, if its memory has not been used again. */
  findFreed(offset: number): Allocation | undefined {
    const nearest = closest(this.#quarantine, offset);
    return nearest && offset >= nearest.offset && offset < nearest.offset + nearest.bytes ? nearest : undefined;
  }
}

function closest(allocations: Iterable<Allocation>, offset: number): Allocation | undefined {
  let best: Allocation | undefined;
  let distance = Number.POSITIVE_INFINITY;
  for (const allocation of allocations) {
    const away = Math.max(allocation.offset - offset, offset - (allocation.offset + allocation.bytes - 1), 0);
    if (away < distance) {
      best = allocation;
      distance = away;
    }
  }
  return best;
}
