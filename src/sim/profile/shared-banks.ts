const banks = 32;
const bankBytes = 4;

/** How often shared memory must be gone through for one access of a warp, and how often at best. */
export interface BankPasses {
  readonly passes: number;
  readonly ideal: number;
}

/**
 * Shared memory has 32 banks of 4 bytes, each of which gives one word a pass to any number of lanes. Accesses of 8 and 16
 * bytes are served by half warps and quarter warps. `addresses` by lane. Source: CUDA C++ Programming Guide, "Shared
 * Memory" of compute capability 5.x and later; for wide accesses, what profilers show.
 */
export function bankPasses(addresses: Uint32Array, lanes: number, bytes: number): BankPasses {
  const lanesPerPhase = bytes <= bankBytes ? 32 : (32 * bankBytes) / bytes;
  let passes = 0;
  let ideal = 0;
  for (let first = 0; first < 32; first += lanesPerPhase) {
    const words = new Set<number>();
    for (let lane = first; lane < first + lanesPerPhase; lane++) {
      if (((lanes >>> lane) & 1) === 0) continue;
      for (let at = 0; at < bytes; at += bankBytes) words.add((addresses[lane]! + at) >>> 2);
    }
    if (words.size === 0) continue;
    passes += mostInOneBank(words);
    ideal++;
  }
  return { passes, ideal };
}

/** The same for ldmatrix and stmatrix, which move a matrix of eight rows of 16 bytes at a time. */
export function matrixPasses(rows: Uint32Array, count: number): BankPasses {
  let passes = 0;
  for (let first = 0; first < count; first += 8) {
    const words = new Set<number>();
    for (let row = first; row < first + 8; row++) for (let i = 0; i < 4; i++) words.add((rows[row]! >>> 2) + i);
    passes += mostInOneBank(words);
  }
  return { passes, ideal: count / 8 };
}

function mostInOneBank(words: ReadonlySet<number>): number {
  if (words.size === 1) return 1;
  const used = new Uint8Array(banks);
  let most = 0;
  for (const word of words) {
    const count = ++used[word % banks]!;
    if (count > most) most = count;
  }
  return most;
}
