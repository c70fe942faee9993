import { memoryMap } from "../memory-map.ts";
import type { LinearMemory } from "../run/views.ts";

export interface Allocation {
  /** Offset in the device's linear memory. */
  readonly offset: number;
  readonly bytes: number;
}

const granule = 512;
/** Memory kept free behind every allocation, so that running past an end does not land in the next one. */
const guardBytes = 512;

/** First-fit allocation in a device's linear memory above its heap's begin. Offsets are multiples of 512. */
export class Arena {
  readonly #memory: LinearMemory;
  /** By offset. */
  readonly #live = new Map<number, Allocation>();
  /** Free ranges in order of their offsets; the last has no end but that of the memory. */
  #free: { offset: number; bytes: number }[];
  readonly totalBytes: number;
  #usedBytes = 0;

  constructor(memory: LinearMemory, totalBytes: number) {
    this.#memory = memory;
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
  allocate(bytes: number): Allocation | undefined {
    const size = Math.ceil(bytes / granule) * granule;
    const whole = size + guardBytes;
    if (size > this.freeBytes) return undefined;
    const at = this.#free.findIndex((range) => range.bytes >= whole);
    const range = this.#free[at];
    if (!range || !this.#memory.reserve(range.offset + whole)) return undefined;
    const allocation = { offset: range.offset, bytes };
    if (range.bytes === whole) this.#free.splice(at, 1);
    else this.#free[at] = { offset: range.offset + whole, bytes: range.bytes - whole };
    this.#live.set(allocation.offset, allocation);
    this.#usedBytes += size;
    return allocation;
  }

  /** False when nothing was allocated there. */
  free(offset: number): boolean {
    const allocation = this.#live.get(offset);
    if (!allocation) return false;
    this.#live.delete(offset);
    const size = Math.ceil(allocation.bytes / granule) * granule;
    this.#usedBytes -= size;
    let begin = offset;
    let end = offset + size + guardBytes;
    const kept = this.#free.filter((range) => {
      if (range.offset + range.bytes === begin) begin = range.offset;
      else if (range.offset === end) end += range.bytes;
      else return true;
      return false;
    });
    const at = kept.findIndex((range) => range.offset > begin);
    kept.splice(at < 0 ? kept.length : at, 0, { offset: begin, bytes: end - begin });
    this.#free = kept;
    return true;
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
    let best: Allocation | undefined;
    let distance = Number.POSITIVE_INFINITY;
    for (const allocation of this.#live.values()) {
      const away = Math.max(allocation.offset - offset, offset - (allocation.offset + allocation.bytes - 1), 0);
      if (away < distance) {
        best = allocation;
        distance = away;
      }
    }
    return best;
  }
}
