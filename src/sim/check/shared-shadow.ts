import { AsyncCopies } from "./async-copies.ts";
import type { ThreadOrder } from "./thread-order.ts";

/** One access to a cell: who, by which instruction. */
export interface CellAccess {
  readonly thread: number;
  readonly site: number;
  readonly kind: "reads" | "writes" | "copies asynchronously";
}

/** Why an access of `thread` at `site` to shared memory is wrong; `offset` is the first byte concerned. */
export type SharedFault = { readonly offset: number } & (
  | { readonly why: "unwritten" }
  | { readonly why: "race"; readonly other: CellAccess }
);

/** Writes over others that nothing orders: races unless they leave what was there. */
interface Doubt {
  readonly offset: number;
  readonly before: Uint8Array;
  readonly thread: number;
  readonly site: number;
  readonly faults: readonly SharedFault[];
}

/** A race that is known only after the write. */
export interface SettledRace {
  readonly fault: SharedFault;
  /** Where the write begins. */
  readonly offset: number;
  readonly thread: number;
  readonly site: number;
  readonly bytes: number;
}

/** The time of a write that may happen at any moment until its thread waits: a cp.async under way. */
const underWay = 0xffffffff;
const threadMask = 0x3ff;
const atomicBit = 0x400;
const siteShift = 11;

/** What happened last to each cell of shared memory; stamped with times of the ThreadOrder. */
interface Column {
  readonly time: Uint32Array;
  /** Thread, whether atomically, and site in one number. */
  readonly who: Uint32Array;
}

function column(cells: number): Column {
  return { time: new Uint32Array(cells), who: new Uint32Array(cells) };
}

/**
 * The last write and two reads of every cell of a block's shared memory. A cell is as wide as the kernel's narrowest access
 * to shared memory, so that accesses cover whole cells. Of the reads one is the latest, and the other of another warp
 * where there is one: where warps synchronize as a whole, a write that races with any reader races with one of these.
 */
export class SharedShadow {
  readonly order: ThreadOrder;
  readonly #copies = new AsyncCopies((first, end) => this.#written.time.fill(this.order.now, first, end));
  #shift = 0;
  #written = column(0);
  #read = column(0);
  #readBefore = column(0);
  #doubt: Doubt | undefined;

  constructor(order: ThreadOrder) {
    this.order = order;
  }

  /** For a launch whose blocks have `bytes` of shared memory, in cells of `2 ** shift` bytes. */
  begin(bytes: number, shift: number): void {
    const cells = (bytes >>> shift) + 1;
    this.#shift = shift;
    if (cells > this.#written.time.length) {
      this.#written = column(cells);
      this.#read = column(cells);
      this.#readBefore = column(cells);
    } else if (this.order.now > 2 ** 31) {
      this.order.reset();
      for (const { time } of [this.#written, this.#read, this.#readBefore]) time.fill(0);
    }
  }

  beginBlock(): void {
    this.#doubt = undefined;
    this.#copies.clear((first, end) => this.#written.time.fill(0, first, end));
    this.order.beginBlock();
  }

  read(offset: number, bytes: number, thread: number, site: number): SharedFault | undefined {
    const { order } = this;
    const { begin, now } = order;
    const { time, who } = this.#written;
    const [latest, before] = [this.#read, this.#readBefore];
    const end = (offset + bytes) >>> this.#shift;
    const own = (site << siteShift) | thread;
    for (let cell = offset >>> this.#shift; cell < end; cell++) {
      const written = time[cell]!;
      if (written < begin) return { why: "unwritten", offset: cell << this.#shift };
      const writer = who[cell]! & threadMask;
      if (!order.ordered(writer, written, thread) || written === underWay) return this.#race(cell, this.#writer(cell));
      const reader = latest.who[cell]! & threadMask;
      if (reader !== thread && latest.time[cell]! >= begin) {
        if (reader >>> 5 !== thread >>> 5 || before.time[cell]! < begin) {
          before.time[cell] = latest.time[cell]!;
          before.who[cell] = latest.who[cell]!;
        }
      }
      latest.time[cell] = now;
      latest.who[cell] = own;
    }
    return undefined;
  }

  /** `remember` is to be called next when this leaves doubt. */
  write(offset: number, bytes: number, thread: number, site: number): SharedFault | undefined {
    const { order } = this;
    const { time, who } = this.#written;
    const end = (offset + bytes) >>> this.#shift;
    const own = (site << siteShift) | thread;
    let doubts: SharedFault[] | undefined;
    for (let cell = offset >>> this.#shift; cell < end; cell++) {
      const race = this.#unorderedRead(cell, thread);
      if (race) return race;
      const written = time[cell]!;
      if (written === underWay) return this.#race(cell, this.#writer(cell));
      if (!order.ordered(who[cell]! & threadMask, written, thread)) {
        doubts ??= [];
        doubts.push(this.#race(cell, this.#writer(cell)));
      }
      time[cell] = order.now;
      who[cell] = own;
    }
    if (doubts) this.#doubt = { offset, before: new Uint8Array(bytes), thread, site, faults: doubts };
    return undefined;
  }

  /** Atomic accesses are ordered among themselves, but order nothing else. */
  atomic(offset: number, bytes: number, thread: number, site: number): SharedFault | undefined {
    const { order } = this;
    const { time, who } = this.#written;
    const end = (offset + bytes) >>> this.#shift;
    for (let cell = offset >>> this.#shift; cell < end; cell++) {
      const written = time[cell]!;
      if (written < order.begin) return { why: "unwritten", offset: cell << this.#shift };
      const race = this.#unorderedRead(cell, thread);
      if (race) return race;
      const isAtomic = (who[cell]! & atomicBit) !== 0;
      if (written === underWay || (!isAtomic && !order.ordered(who[cell]! & threadMask, written, thread)))
        return this.#race(cell, this.#writer(cell));
      time[cell] = order.now;
      who[cell] = (site << siteShift) | atomicBit | thread;
    }
    return undefined;
  }

  /** A cp.async begins: its bytes may arrive at any time until the thread has waited for it. */
  copy(offset: number, bytes: number, thread: number, site: number): SharedFault | undefined {
    const { order } = this;
    const { time, who } = this.#written;
    const first = offset >>> this.#shift;
    const end = (offset + bytes) >>> this.#shift;
    for (let cell = first; cell < end; cell++) {
      const race = this.#unorderedRead(cell, thread);
      if (race) return race;
      if (time[cell] === underWay || !order.ordered(who[cell]! & threadMask, time[cell]!, thread))
        return this.#race(cell, this.#writer(cell));
      time[cell] = underWay;
      who[cell] = (site << siteShift) | thread;
    }
    this.#copies.add(thread, first, end);
    return undefined;
  }

  commitCopies(thread: number): void {
    this.#copies.commit(thread);
  }

  /** From here on the thread itself sees them; others do when they have synchronized with it. */
  waitForCopies(thread: number, newest: number): void {
    this.#copies.wait(thread, newest);
  }

  /** Keeps what the write in doubt is about to overwrite; `memory` is the block's. */
  remember(memory: Uint8Array): void {
    const { offset, before } = this.#doubt!;
    before.set(memory.subarray(offset, offset + before.length));
  }

  /** To be called when a write is done: the race that it turned out to be. Writing what was there already is none. */
  settle(memory: Uint8Array): SettledRace | undefined {
    const doubt = this.#doubt;
    if (!doubt) return undefined;
    this.#doubt = undefined;
    const { before, thread, site } = doubt;
    const fault = doubt.faults.find(({ offset }) => {
      for (let at = offset; at < offset + (1 << this.#shift); at++) {
        if (memory[at] !== before[at - doubt.offset]) return true;
      }
      return false;
    });
    return fault && { fault, offset: doubt.offset, thread, site, bytes: before.length };
  }

  /** True between a write in doubt and its `settle`. */
  get doubtful(): boolean {
    return this.#doubt !== undefined;
  }

  #unorderedRead(cell: number, thread: number): SharedFault | undefined {
    return this.#unordered(this.#read, cell, thread) ?? this.#unordered(this.#readBefore, cell, thread);
  }

  #unordered({ time, who }: Column, cell: number, thread: number): SharedFault | undefined {
    const when = time[cell]!;
    if (when < this.order.begin) return undefined;
    const reader = who[cell]! & threadMask;
    if (this.order.ordered(reader, when, thread)) return undefined;
    return this.#race(cell, { thread: reader, site: who[cell]! >>> siteShift, kind: "reads" });
  }

  #writer(cell: number): CellAccess {
    const who = this.#written.who[cell]!;
    const kind = this.#written.time[cell] === underWay ? "copies asynchronously" : "writes";
    return { thread: who & threadMask, site: who >>> siteShift, kind };
  }

  #race(cell: number, other: CellAccess): SharedFault {
    return { why: "race", offset: cell << this.#shift, other };
  }
}
