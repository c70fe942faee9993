/** What one thread has under way: copies in the order they began, the last `open` of them in no group yet. */
interface ThreadCopies {
  /** Cells of shared memory that a copy writes: from the first up to but not including the end. */
  readonly firsts: number[];
  readonly ends: number[];
  /** How many copies each committed group has, the oldest first. */
  readonly groups: number[];
  open: number;
}

/** The `cp.async` copies of a block's threads that nobody has waited for yet. */
export class AsyncCopies {
  /** By thread. */
  readonly #threads: ThreadCopies[] = [];
  readonly #arrived: (first: number, end: number) => void;

  /** `arrived` is told of the cells of each copy that was waited for. */
  constructor(arrived: (first: number, end: number) => void) {
    this.#arrived = arrived;
  }

  add(thread: number, first: number, end: number): void {
    const copies = this.#of(thread);
    copies.firsts.push(first);
    copies.ends.push(end);
    copies.open++;
  }

  /** A group may be empty, and counts. */
  commit(thread: number): void {
    const copies = this.#of(thread);
    copies.groups.push(copies.open);
    copies.open = 0;
  }

  /** The thread waits until no more than its `newest` latest groups are under way. */
  wait(thread: number, newest: number): void {
    const { firsts, ends, groups } = this.#of(thread);
    let count = 0;
    while (groups.length > newest) count += groups.shift()!;
    for (let i = 0; i < count; i++) this.#arrived(firsts[i]!, ends[i]!);
    firsts.splice(0, count);
    ends.splice(0, count);
  }

  /** Forgets what nobody waited for: the block has ended. `lost` is told of its cells. */
  clear(lost: (first: number, end: number) => void): void {
    for (const copies of this.#threads) {
      if (!copies) continue; // a thread that has copied nothing
      const { firsts, ends, groups } = copies;
      for (let i = 0; i < firsts.length; i++) lost(firsts[i]!, ends[i]!);
      firsts.length = ends.length = groups.length = copies.open = 0;
    }
  }

  #of(thread: number): ThreadCopies {
    this.#threads[thread] ??= { firsts: [], ends: [], groups: [], open: 0 };
    return this.#threads[thread];
  }
}
