/** What one line, or a whole kernel, cost. Plain sums, so that they can be added up over lines, blocks and launches. */
export interface Counts {
  /** Instructions that warps issued, and lanes that were active then, whether or not their predicate held. */
  warpInstructions: number;
  activeLanes: number;
  /** Instructions that lanes executed: the predicate held. */
  laneInstructions: number;
  /** Global memory: bytes that lanes named, sectors of 32 bytes that moved, and the fewest that could hold those bytes. */
  readBytes: number;
  writtenBytes: number;
  readSectors: number;
  writtenSectors: number;
  idealSectors: number;
  /** Shared memory: bytes that lanes named, passes through the banks, and the passes without any conflict. */
  sharedBytes: number;
  sharedPasses: number;
  idealPasses: number;
  /** Local memory: bytes that lanes named. */
  localBytes: number;
  /** Atomic operations of lanes, in global and shared memory, and those among them whose address another lane of the warp has too. */
  atomics: number;
  atomicConflicts: number;
}

export function noCounts(): Counts {
  return {
    warpInstructions: 0,
    activeLanes: 0,
    laneInstructions: 0,
    readBytes: 0,
    writtenBytes: 0,
    readSectors: 0,
    writtenSectors: 0,
    idealSectors: 0,
    sharedBytes: 0,
    sharedPasses: 0,
    idealPasses: 0,
    localBytes: 0,
    atomics: 0,
    atomicConflicts: 0,
  };
}

export function addCounts(to: Counts, more: Partial<Counts>): void {
  for (const [key, value] of Object.entries(more) as [keyof Counts, number][]) to[key] += value;
}

/** Weights of `cost`: a multiprocessor issues four instructions in the time of one pass, and has eight issued per sector. */
const slotsPerPass = 4;
const slotsPerSector = 8;

/**
 * A rough price in issue slots of a multiprocessor, to sort lines by: one for each warp instruction, four for each pass
 * through shared memory (one a cycle, against four instructions), eight for each sector of global memory (a
 * multiprocessor's share of an A100's or H100's DRAM is some 10 to 18 bytes a cycle). It knows neither caches nor
 * latencies nor what tensor cores take.
 */
export function cost({ warpInstructions, sharedPasses, readSectors, writtenSectors }: Counts): number {
  return warpInstructions + slotsPerPass * sharedPasses + slotsPerSector * (readSectors + writtenSectors);
}
