/** What the lanes of a warp do in one run of a region. They run one after another, so that each lane's events lie together. */
const kinds = { step: 0, guarded: 1, access: 2 } as const;

/** Receives what lanes do together; see LaneEvents.together. `lanes` are masks. */
export interface WarpVisitor {
  /** A fragment begins. */
  fragment(fragment: number, lanes: number): void;
  /** The guarded instruction at a site is executed by those lanes whose predicate holds. */
  guarded(site: number, lanes: number): void;
  /** One access of each lane; `addresses` by lane. `access` is what packAccess made. */
  access(site: number, lanes: number, addresses: Uint32Array, access: number): void;
}

/** Lanes that reach one site in the same execution of a fragment. */
interface Group {
  readonly site: number;
  /** Undefined for a guarded instruction. */
  readonly access: number | undefined;
  readonly addresses: Uint32Array;
  lanes: number;
}

/**
 * Records the events of single lanes and puts them together to what a warp does. The rule is that of the least address: of
 * the fragments that lanes are to run next, the one that stands first in the text runs, with all lanes that are at it. That
 * lets lanes that took different ways meet again where the ways join, and lanes that leave a loop early wait behind it,
 * as compilers place the points of reconvergence.
 */
export class LaneEvents {
  #words = new Int32Array(1 << 12);
  #length = 0;
  #lanes = 0;
  readonly #next = new Int32Array(32);
  readonly #ends = new Int32Array(32);
  readonly #groups = new Map<number, Group>();
  /** Those that have lanes. */
  readonly #filled: Group[] = [];

  /** Lanes that did anything. */
  get lanes(): number {
    return this.#lanes;
  }

  clear(): void {
    this.#length = 0;
    this.#lanes = 0;
  }

  step(fragment: number, lane: number): void {
    if (((this.#lanes >>> lane) & 1) === 0) {
      this.#lanes |= 1 << lane;
      this.#next[lane] = this.#length;
    }
    this.#push(fragment * 4 + kinds.step, lane);
  }

  guarded(site: number, lane: number): void {
    this.#push(site * 4 + kinds.guarded, lane);
  }

  access(address: number, access: number, site: number, lane: number): void {
    this.#push(site * 4 + kinds.access, lane);
    this.#push(address, lane);
    this.#push(access, lane);
  }

  #push(word: number, lane: number): void {
    if (this.#length === this.#words.length) {
      const larger = new Int32Array(2 * this.#length);
      larger.set(this.#words);
      this.#words = larger;
    }
    this.#words[this.#length++] = word;
    this.#ends[lane] = this.#length;
  }

  /** Tells `visitor` what the recorded lanes did together, in the order in which a warp would. */
  together(visitor: WarpVisitor): void {
    for (let waiting = this.#lanes; waiting !== 0; ) {
      let first = 0x7fffffff;
      let lanes = 0;
      for (let rest = waiting; rest !== 0; rest &= rest - 1) {
        const lane = 31 - Math.clz32(rest & -rest);
        const fragment = this.#words[this.#next[lane]!]! >> 2;
        if (fragment > first) continue;
        if (fragment < first) lanes = 0;
        first = fragment;
        lanes |= 1 << lane;
      }
      visitor.fragment(first, lanes);
      for (let rest = lanes; rest !== 0; rest &= rest - 1) {
        const lane = 31 - Math.clz32(rest & -rest);
        if (!this.#gather(lane)) waiting &= ~(1 << lane);
      }
      this.#release(visitor);
    }
  }

  /** Puts what a lane does in its next fragment into groups; false when it was the lane's last. */
  #gather(lane: number): boolean {
    const words = this.#words;
    const end = this.#ends[lane]!;
    let at = this.#next[lane]! + 1;
    while (at < end) {
      const word = words[at]!;
      const kind = word & 3;
      if (kind === kinds.step) break;
      const isAccess = kind === kinds.access;
      const group = this.#group(word >> 2, isAccess ? words[at + 2]! : undefined);
      if (group.lanes === 0) this.#filled.push(group);
      group.lanes |= 1 << lane;
      if (isAccess) group.addresses[lane] = words[at + 1]!;
      at += isAccess ? 3 : 1;
    }
    this.#next[lane] = at;
    return at < end;
  }

  /** One instruction may make several accesses of different kinds or sizes: a cp.async reads and writes. */
  #group(site: number, access: number | undefined): Group {
    const key = site * 4096 + (access === undefined ? 4095 : access);
    let group = this.#groups.get(key);
    if (!group) {
      group = { site, access, addresses: new Uint32Array(32), lanes: 0 };
      this.#groups.set(key, group);
    }
    return group;
  }

  #release(visitor: WarpVisitor): void {
    for (const group of this.#filled) {
      const { site, access, lanes, addresses } = group;
      if (access === undefined) visitor.guarded(site, lanes);
      else visitor.access(site, lanes, addresses, access);
      group.lanes = 0;
    }
    this.#filled.length = 0;
  }
}
