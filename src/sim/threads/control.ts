/**
 * What the threads of a team share besides the device's memory: one launch at a time, described in 32-bit words, its
 * arguments behind them. The owner opens a launch; whoever joins it takes block after block from one counter until none
 * is left; the owner closes it and waits until all have left, so that a thread which wakes up late finds either a launch that it
 * may join or nothing.
 */
const words = {
  /** Raised for every launch: what idle threads wait on. */
  launches: 0,
  /** `open` plus the number of threads inside. */
  state: 1,
  nextBlock: 2,
  /** 1 when some thread has failed: no further blocks are begun. */
  failed: 3,
  /** Raised when a thread leaves or asks for something: what the owner waits on. */
  bell: 4,
  kernel: 5,
  grid: 6,
  block: 9,
  sharedBytes: 12,
  argumentBytes: 13,
  /** One word per thread: raised when the owner has answered it. */
  answers: 16,
} as const;

const open = 0x10000;
const argumentsAt = 256;
const argumentCapacity = 32 * 1024;

export interface LaunchDescription {
  readonly kernel: number;
  readonly grid: readonly [number, number, number];
  readonly block: readonly [number, number, number];
  readonly sharedBytes: number;
}

export class TeamControl {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;

  constructor(buffer = new SharedArrayBuffer(argumentsAt + argumentCapacity)) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer, 0, argumentsAt / 4);
  }

  /** Lets the other threads in. */
  open(launch: LaunchDescription, parameters: Uint8Array): void {
    const w = this.#words;
    w[words.kernel] = launch.kernel;
    w.set(launch.grid, words.grid);
    w.set(launch.block, words.block);
    w[words.sharedBytes] = launch.sharedBytes;
    w[words.argumentBytes] = parameters.length;
    new Uint8Array(this.buffer, argumentsAt).set(parameters);
    w[words.nextBlock] = 0;
    w[words.failed] = 0;
    Atomics.store(w, words.state, open);
    Atomics.add(w, words.launches, 1);
    Atomics.notify(w, words.launches);
  }

  /** No thread may join any more. */
  close(): void {
    Atomics.and(this.#words, words.state, ~open);
  }

  get inside(): number {
    return Atomics.load(this.#words, words.state) & ~open;
  }

  /** The launch under way and its arguments; undefined when there is none to join. */
  join(): { launch: LaunchDescription; parameters: Uint8Array } | undefined {
    const w = this.#words;
    for (;;) {
      const state = Atomics.load(w, words.state);
      if ((state & open) === 0) return undefined;
      if (Atomics.compareExchange(w, words.state, state, state + 1) === state) break;
    }
    const triple = (at: number) => [w[at]!, w[at + 1]!, w[at + 2]!] as const;
    const launch: LaunchDescription = {
      kernel: w[words.kernel]!,
      grid: triple(words.grid),
      block: triple(words.block),
      sharedBytes: w[words.sharedBytes]!,
    };
    return { launch, parameters: new Uint8Array(this.buffer, argumentsAt, w[words.argumentBytes]!).slice() };
  }

  leave(): void {
    Atomics.sub(this.#words, words.state, 1);
    this.ring();
  }

  /** The next block to run, counted along x, then y, then z; beyond the grid when none is left. */
  takeBlock(): number {
    if (Atomics.load(this.#words, words.failed) !== 0) return Number.MAX_SAFE_INTEGER;
    return Atomics.add(this.#words, words.nextBlock, 1);
  }

  fail(): void {
    Atomics.store(this.#words, words.failed, 1);
  }

  get launches(): number {
    return Atomics.load(this.#words, words.launches);
  }

  waitForLaunch(seen: number): void {
    Atomics.wait(this.#words, words.launches, seen);
  }

  ring(): void {
    Atomics.add(this.#words, words.bell, 1);
    Atomics.notify(this.#words, words.bell);
  }

  get bell(): number {
    return Atomics.load(this.#words, words.bell);
  }

  waitForBell(seen: number): void {
    Atomics.wait(this.#words, words.bell, seen);
  }

  /** How often the owner has answered a thread. */
  answers(thread: number): number {
    return Atomics.load(this.#words, words.answers + thread);
  }

  answer(thread: number): void {
    Atomics.add(this.#words, words.answers + thread, 1);
    Atomics.notify(this.#words, words.answers + thread);
  }

  waitForAnswer(thread: number, seen: number): void {
    while (this.answers(thread) === seen) Atomics.wait(this.#words, words.answers + thread, seen);
  }
}
