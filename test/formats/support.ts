/** What a call throws, or undefined when it returns. */
export function thrownBy(action: () => unknown): Error | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

/** A seeded generator of integers in [0, limit): xorshift32, enough for fuzzing and the same on every machine. */
export function seededInts(seed: number): (limit: number) => number {
  let state = seed >>> 0 || 1;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
}
