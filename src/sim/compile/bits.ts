/** A set of small whole numbers. */
export class BitSet {
  readonly words: Uint32Array;

  constructor(size: number, words = new Uint32Array((size + 31) >>> 5)) {
    this.words = words;
  }

  /** Empty sets that share one piece of memory: kernels need thousands. */
  static many(count: number, size: number): BitSet[] {
    const length = (size + 31) >>> 5;
    const words = new Uint32Array(count * length);
    return Array.from({ length: count }, (_, i) => new BitSet(size, words.subarray(i * length, (i + 1) * length)));
  }

  has(i: number): boolean {
    return ((this.words[i >>> 5]! >>> (i & 31)) & 1) !== 0;
  }

  add(i: number): void {
    this.words[i >>> 5]! |= 1 << (i & 31);
  }

  /** Adds all of `other`; true when that changed anything. */
  addAll(other: BitSet): boolean {
    let changed = 0;
    for (let i = 0; i < this.words.length; i++) {
      const before = this.words[i]!;
      const after = before | other.words[i]!;
      this.words[i] = after;
      changed |= before ^ after;
    }
    return changed !== 0;
  }

  intersection(other: BitSet): BitSet {
    const result = new BitSet(32 * this.words.length);
    for (let i = 0; i < this.words.length; i++) result.words[i] = this.words[i]! & other.words[i]!;
    return result;
  }

  /** Becomes `use` and what of `out` is not in `kill`; true when that changed anything. */
  transfer(use: BitSet, out: BitSet, kill: BitSet): boolean {
    let changed = 0;
    for (let i = 0; i < this.words.length; i++) {
      const before = this.words[i]!;
      const after = (use.words[i]! | (out.words[i]! & ~kill.words[i]!)) >>> 0;
      this.words[i] = after;
      changed |= before ^ after;
    }
    return changed !== 0;
  }

  *[Symbol.iterator](): Generator<number> {
    for (let w = 0; w < this.words.length; w++) {
      for (let word = this.words[w]!; word !== 0; word &= word - 1) yield w * 32 + (31 - Math.clz32(word & -word));
    }
  }
}
