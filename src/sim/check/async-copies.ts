/** Cells of shared memory, `first` up to but not including `end`. */
export interface CellRange {
  readonly first: number;
  readonly end: number;
}

interface ThreadCopies {
  /** Since the thread's last commit. */
  open: CellRange[];
  /** Committed groups, the oldest first. */
  readonly groups: CellRange[][];
}

/** The `cp.async` copies of a block's threads that nobody has waited for yet. */
export class AsyncCopies {
  readonly #threads = new Map<number, ThreadCopies>();

  add(thread: number, range: CellRange): void {
    const copies = this.#threads.get(thread);
    if (copies) copies.open.push(range);
    else this.#threads.set(thread, { open: [range], groups: [] });
  }

  commit(thread: number): void {
    const copies = this.#threads.get(thread);
    // A group may be empty, and counts.
    if (copies) {
      copies.groups.push(copies.open);
      copies.open = [];
    } else this.#threads.set(thread, { open: [], groups: [[]] });
  }

  /** The thread waits until no more than its `newest` latest groups are under way: takes out what has then arrived. */
  wait(thread: number, newest: number): CellRange[] {
    const groups = this.#threads.get(thread)?.groups;
    if (!groups || groups.length <= newest) return [];
    return groups.splice(0, groups.length - newest).flat();
  }

  /** Takes out everything: the block has ended. */
  clear(): CellRange[] {
    const left = [...this.#threads.values()].flatMap(({ open, groups }) => [...open, ...groups.flat()]);
    this.#threads.clear();
    return left;
  }
}
