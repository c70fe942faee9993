const lanesPerWarp = 32;
const warpsPerBlock = 32;

/** Lanes of one warp that meet at a barrier, of those that have not exited. */
export interface WarpLanes {
  readonly warp: number;
  readonly lanes: number;
  readonly live: number;
}

/** A warp's `bar.arrive`: when it was, and what the warp knew then. */
export interface Release {
  readonly warp: number;
  readonly time: number;
  readonly known: Uint32Array;
}

/**
 * What a block's synchronization orders: happened-before, on a clock that ticks at each barrier and collective
 * instruction. An access is stamped with the time; a thread that has synchronized since then with the one that made it,
 * directly or through others, is ordered behind it. Between warps what is known is kept for the warp as a whole, so a
 * named barrier that only some lanes of a warp reach may order more here than it does. The idea is FastTrack's
 * (Flanagan and Freund, PLDI 2009), with the hierarchy of warp and block in place of vectors of all threads.
 */
export class ThreadOrder {
  /** The present: what accesses are stamped with. */
  now = 1;
  /** When the running block began. */
  begin = 1;
  /** Everything stamped before this is ordered before everything now: the last barrier of the whole block. */
  #block = 1;
  /** By warp: the last meeting of all its live lanes. */
  readonly #warps = new Uint32Array(warpsPerBlock);
  /** By lane of a warp and other lane of it: meetings of some lanes only. */
  readonly #lanes = new Uint32Array(warpsPerBlock * lanesPerWarp * lanesPerWarp);
  /** By warp and other warp: barriers of some warps only. */
  readonly #others = new Uint32Array(warpsPerBlock * warpsPerBlock);

  /** Forgets everything. Stamps from before must not be used any more. */
  reset(): void {
    this.now = this.begin = this.#block = 1;
    for (const times of [this.#warps, this.#lanes, this.#others]) times.fill(0);
  }

  beginBlock(): void {
    this.begin = this.#block = ++this.now;
  }

  /** True when what thread `before` did at `time` comes before what `thread` does now. */
  ordered(before: number, time: number, thread: number): boolean {
    if (time < this.#block || before === thread) return true;
    const [warp, other] = [thread >>> 5, before >>> 5];
    if (warp !== other) return time < this.#others[warp * warpsPerBlock + other]!;
    return time < this.#warps[warp]! || time < this.#lanes[thread * lanesPerWarp + (before & 31)]!;
  }

  /** Lanes of a warp do a collective instruction, of those that have not exited. */
  meet(warp: number, lanes: number, live: number): void {
    const time = ++this.now;
    if (lanes === live) this.#warps[warp] = time;
    else this.#joinLanes(warp, lanes, time);
  }

  arrive(warp: number): Release {
    const row = warp * warpsPerBlock;
    return { warp, time: ++this.now, known: this.#others.slice(row, row + warpsPerBlock) };
  }

  /** A barrier of the block is complete: all of its threads wait there (`whole`), or some, for some that have arrived before. */
  pass(waiting: readonly WarpLanes[], arrived: readonly Release[], whole: boolean): void {
    const time = ++this.now;
    if (whole) {
      this.#block = time;
      return;
    }
    const known = new Uint32Array(warpsPerBlock);
    const rowOf = (warp: number): Uint32Array =>
      this.#others.subarray(warp * warpsPerBlock, (warp + 1) * warpsPerBlock);
    for (const release of arrived) {
      learn(known, release.known);
      known[release.warp] = Math.max(known[release.warp]!, release.time);
    }
    for (const { warp } of waiting) learn(known, rowOf(warp));
    for (const { warp } of waiting) known[warp] = time;
    for (const { warp, lanes, live } of waiting) {
      rowOf(warp).set(known);
      if (lanes === live) this.#warps[warp] = time;
      else this.#joinLanes(warp, lanes, time);
    }
  }

  #joinLanes(warp: number, lanes: number, time: number): void {
    const known = new Uint32Array(lanesPerWarp);
    const members = Array.from({ length: lanesPerWarp }, (_, lane) => lane).filter((lane) => (lanes >>> lane) & 1);
    const rowOf = (lane: number): Uint32Array => {
      const at = (warp * lanesPerWarp + lane) * lanesPerWarp;
      return this.#lanes.subarray(at, at + lanesPerWarp);
    };
    for (const lane of members) learn(known, rowOf(lane));
    for (const lane of members) known[lane] = time;
    for (const lane of members) rowOf(lane).set(known);
  }
}

/** What is known to either. */
function learn(known: Uint32Array, times: Uint32Array): void {
  for (let i = 0; i < known.length; i++) known[i] = Math.max(known[i]!, times[i]!);
}
