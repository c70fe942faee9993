/** Lets one holder in at a time, in the order of asking. */
export class Mutex {
  #last: Promise<void> = Promise.resolve();

  /** Resolves to a function that lets the next one in. */
  async acquire(): Promise<() => void> {
    const before = this.#last;
    let release!: () => void;
    this.#last = new Promise((resolve) => {
      release = resolve;
    });
    await before;
    return release;
  }
}
