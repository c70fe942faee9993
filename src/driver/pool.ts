import { ArgumentError, StateError } from "../base/errors.ts";
import { settings } from "../base/settings.ts";
import type { Device } from "./device.ts";
import type { DeviceBuffer, MemoryPool, MemoryStatistics } from "./memory.ts";
import { type Lease, PooledBuffer } from "./pool/buffer.ts";
import type { DeviceMemory } from "./pool/device-memory.ts";
import { FreeList } from "./pool/free-list.ts";
import { PendingBlocks } from "./pool/pending.ts";
import { formatBytes, outOfMemory } from "./pool/report.ts";
import { absorbNext, type Block, coversSegment, type Segment, splitBlock, wholeBlock } from "./pool/segment.ts";
import { blockBytesFor, type SegmentKind, segmentBytesFor, segmentKindFor, splitsOff } from "./pool/size-class.ts";
import type { Stream } from "./stream.ts";

/**
 * A caching allocator. The driver's own costs hundreds of microseconds and waits for the device, so memory comes from it
 * in segments that are kept, cut into blocks on demand (best fit), and merged again when neighbours are free. Free
 * blocks are kept by stream: on one stream, what the new owner submits runs after all that the old owner submitted.
 *
 * A pool for captured graphs (`forGraphs`) never gives memory back while it lives: a graph writes to the same addresses
 * on every launch, also to those of buffers that were freed during its capture. The ideas follow PyTorch's
 * CUDACachingAllocator.
 */
export class CachingPool implements MemoryPool {
  readonly name: string;
  readonly #memory: DeviceMemory;
  readonly #device: Device;
  readonly #forGraphs: boolean;
  /** Every buffer has a segment of its own, which no other gets after it. */
  readonly #separate: boolean;
  readonly #segments = new Set<Segment>();
  readonly #free = new Map<Stream, Record<SegmentKind, FreeList>>();
  readonly #live = new Set<Lease>();
  readonly #pending: PendingBlocks;
  readonly #forgotten = new FinalizationRegistry<Lease>((lease) => this.#freeForgotten(lease));
  #segmentsMade = 0;
  #captured = false;
  #disposed = false;
  #requestedBytes = 0;
  #allocatedBytes = 0;
  #reservedBytes = 0;
  #peakAllocatedBytes = 0;
  #peakReservedBytes = 0;
  #retries = 0;

  /** Use `device.memory`, or `device.createMemoryPool()`. */
  constructor(memory: DeviceMemory, options: { name: string; forGraphs?: boolean }) {
    this.name = options.name;
    this.#memory = memory;
    this.#device = memory.device;
    this.#forGraphs = options.forGraphs ?? false;
    this.#separate = memory.device.api.separateAllocations ?? false;
    this.#pending = new PendingBlocks(memory.device);
    memory.register(this);
  }

  get limitBytes(): number | undefined {
    return this.#memory.limitBytes;
  }

  set limitBytes(bytes: number | undefined) {
    this.#memory.limitBytes = bytes;
  }

  /** The claims of live buffers, for reports. */
  get leases(): Iterable<Lease> {
    return this.#live;
  }

  allocate(bytes: number, stream: Stream, tag = "untagged"): DeviceBuffer {
    this.#checkAllocation(bytes, tag);
    const block = bytes === 0 ? undefined : this.#obtainBlock(bytes, stream, tag);
    const lease: Lease = { block, bytes, tag, otherStreams: new Set(), released: false };
    this.#live.add(lease);
    this.#requestedBytes += bytes;
    this.#allocatedBytes += block?.bytes ?? 0;
    this.#peakAllocatedBytes = Math.max(this.#peakAllocatedBytes, this.#allocatedBytes);
    const buffer = new PooledBuffer(lease, this.#release);
    this.#forgotten.register(buffer, lease, buffer);
    return buffer;
  }

  statistics(): MemoryStatistics {
    return {
      requestedBytes: this.#requestedBytes,
      allocatedBytes: this.#allocatedBytes,
      reservedBytes: this.#reservedBytes,
      peakAllocatedBytes: this.#peakAllocatedBytes,
      peakReservedBytes: this.#peakReservedBytes,
      liveBuffers: this.#live.size,
      driverAllocations: this.#segmentsMade,
      retries: this.#retries,
    };
  }

  resetPeaks(): void {
    this.#peakAllocatedBytes = this.#allocatedBytes;
    this.#peakReservedBytes = this.#reservedBytes;
  }

  trim(): void {
    if (this.#device.capturing) return; // freeing waits for the device, which a capture forbids
    for (const block of this.#pending.collect(true)) this.#reclaim(block);
    if (this.#captured && !this.#disposed) return;
    const unused = [...this.#free.values()]
      .flatMap((lists) => [...lists.small.blocks, ...lists.large.blocks])
      .filter(coversSegment);
    if (unused.length === 0) return;
    this.#device.synchronize(); // what was freed last may still be in use by work in flight
    for (const block of unused) this.#dropSegment(block);
  }

  forgetStream(stream: Stream): void {
    this.#memory.forgetStream(stream);
  }

  /** The stream has finished and goes away: its free segments go back, and those in use change to the main stream. */
  dropStream(stream: Stream): void {
    for (const lease of this.#live) lease.otherStreams.delete(stream);
    this.trim();
    const heir = this.#device.stream;
    if (stream === heir) return; // the device itself goes away, and resets its pools
    const lists = this.#free.get(stream);
    this.#free.delete(stream);
    for (const segment of this.#segments) if (segment.stream === stream) segment.stream = heir;
    if (!lists) return;
    for (const block of [...lists.small.blocks, ...lists.large.blocks]) this.#listOf(block.segment).add(block);
  }

  reset(): void {
    for (const lease of this.#live) lease.released = true;
    this.#live.clear();
    this.#pending.clear();
    this.#free.clear();
    for (const segment of this.#segments) this.#memory.giveBack(segment.ptr, segment.bytes);
    this.#segments.clear();
    this.#requestedBytes = 0;
    this.#allocatedBytes = 0;
    this.#reservedBytes = 0;
    this.#captured = false;
    this.resetPeaks();
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.trim();
    this.#unregisterWhenEmpty();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #checkAllocation(bytes: number, tag: string): void {
    if (!Number.isSafeInteger(bytes) || bytes < 0) {
      throw new ArgumentError(
        `allocate: "${tag}" asked for ${bytes} bytes; expected a whole number of bytes, 0 or more`,
      );
    }
    if (this.#disposed) {
      throw new StateError(`memory pool "${this.name}": allocate() after dispose(); create another pool`);
    }
    if (!this.#device.capturing) return;
    if (!this.#forGraphs) {
      throw new StateError(
        `memory pool "${this.name}": "${tag}" asked for ${formatBytes(bytes)} during a capture; the graph would go on using ` +
          "memory that others get later: capture inside device.useMemory(device.createMemoryPool(), ...)",
      );
    }
    this.#captured = true;
  }

  #obtainBlock(bytes: number, stream: Stream, tag: string): Block {
    for (const block of this.#pending.collect()) this.#reclaim(block);
    if (this.#separate) return this.#obtainOwn(bytes, stream, tag);
    const wanted = blockBytesFor(bytes);
    let block = this.#findBlock(wanted, stream) ?? this.#growBy(wanted, stream);
    if (!block && !this.#device.capturing) {
      this.#retries++;
      this.#memory.trimAll();
      block = this.#findBlock(wanted, stream) ?? this.#growBy(wanted, stream);
    }
    if (!block) throw this.#outOfMemory(bytes, tag);
    if (splitsOff(block.bytes - wanted, block.segment.kind)) {
      this.#listOf(block.segment).add(splitBlock(block, wanted));
    }
    return block;
  }

  #findBlock(wanted: number, stream: Stream): Block | undefined {
    return this.#free.get(stream)?.[segmentKindFor(wanted)].take(wanted);
  }

  #growBy(wanted: number, stream: Stream): Block | undefined {
    const { preferred, least } = segmentBytesFor(wanted);
    const kind = segmentKindFor(wanted);
    return (
      this.#addSegment(preferred, kind, stream) ??
      (least < preferred ? this.#addSegment(least, kind, stream) : undefined)
    );
  }

  /** A segment of just this buffer's size. */
  #obtainOwn(bytes: number, stream: Stream, tag: string): Block {
    const kind = segmentKindFor(bytes);
    let block = this.#addSegment(bytes, kind, stream, tag);
    if (!block && !this.#device.capturing) {
      this.#retries++;
      this.#memory.trimAll();
      block = this.#addSegment(bytes, kind, stream, tag);
    }
    if (!block) throw this.#outOfMemory(bytes, tag);
    return block;
  }

  #addSegment(bytes: number, kind: SegmentKind, stream: Stream, tag?: string): Block | undefined {
    const ptr = this.#memory.obtain(bytes, tag);
    if (ptr === undefined) return undefined;
    const segment: Segment = { ptr, bytes, kind, order: this.#segmentsMade++, stream };
    this.#segments.add(segment);
    this.#reservedBytes += bytes;
    this.#peakReservedBytes = Math.max(this.#peakReservedBytes, this.#reservedBytes);
    return wholeBlock(segment);
  }

  /** A field, not a method, so that buffers hold a function and not the pool's insides. */
  readonly #release = (lease: Lease, buffer?: PooledBuffer): void => {
    if (lease.released) return;
    lease.released = true;
    if (buffer) this.#forgotten.unregister(buffer);
    this.#live.delete(lease);
    this.#requestedBytes -= lease.bytes;
    if (this.#forGraphs && this.#device.capturing) this.#captured = true;
    if (lease.block) {
      if (lease.otherStreams.size > 0) this.#pending.add(lease.block, [...lease.otherStreams]);
      else this.#reclaim(lease.block);
    }
    if (this.#disposed) {
      this.trim();
      this.#unregisterWhenEmpty();
    }
  };

  #freeForgotten(lease: Lease): void {
    if (lease.released) return;
    if (settings.debug()) {
      process.emitWarning(
        `${this.#device.name}: ${formatBytes(lease.bytes)} for "${lease.tag}" were never disposed; the garbage collector freed them`,
        { code: "LLCUDA_FORGOTTEN_BUFFER" },
      );
    }
    this.#release(lease);
  }

  /** Nothing uses `block` any more: merges it with free neighbours and puts it into its free list. */
  #reclaim(block: Block): void {
    this.#allocatedBytes -= block.bytes;
    const list = this.#listOf(block.segment);
    if (block.next?.free) {
      list.remove(block.next);
      absorbNext(block);
    }
    const previous = block.previous;
    if (previous?.free) {
      list.remove(previous);
      absorbNext(previous);
      list.add(previous);
    } else {
      list.add(block);
    }
    // So that a later use is found out; what graphs may write to stays.
    if (this.#separate && !this.#captured && !this.#device.capturing) this.#dropSegment(block);
  }

  #dropSegment(block: Block): void {
    const { segment } = block;
    this.#listOf(segment).remove(block);
    this.#segments.delete(segment);
    this.#reservedBytes -= segment.bytes;
    this.#memory.giveBack(segment.ptr, segment.bytes);
  }

  #listOf(segment: Segment): FreeList {
    let lists = this.#free.get(segment.stream);
    if (!lists) {
      lists = { small: new FreeList(), large: new FreeList() };
      this.#free.set(segment.stream, lists);
    }
    return lists[segment.kind];
  }

  #unregisterWhenEmpty(): void {
    if (this.#segments.size > 0 || this.#live.size > 0) return;
    this.#pending.clear();
    this.#memory.unregister(this);
  }

  #outOfMemory(wantedBytes: number, tag: string): Error {
    const memory = this.#memory;
    return outOfMemory({
      device: this.#device.name,
      pool: this.name,
      tag,
      wantedBytes,
      ...this.#device.memoryInfo(),
      limitBytes: memory.limitBytes,
      statistics: this.statistics(),
      reservedBytes: memory.reservedBytes,
      leases: [...memory.pools].flatMap((pool) => [...pool.leases]),
    });
  }
}
