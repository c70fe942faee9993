/** Threads that share one row, and rows in a block. */
export interface RowBlock {
  readonly threads: number;
  readonly rows: number;
}

/** Elements of a row that one thread keeps in registers in the row kernels (rms_norm, softmax). */
export const valuesPerThread = 16;

/**
 * The block of kernels that reduce over rows of `cols` elements. It depends on nothing but `cols`, so that the order of
 * additions, and with it every bit of a row's result, is the same whatever else is in the batch.
 */
export function chooseRowBlock(cols: number): RowBlock {
  // Short rows: one warp each, no barrier, eight rows to a block.
  if (cols <= 32 * valuesPerThread) return { threads: 32, rows: 8 };
  const threads = Math.ceil(cols / valuesPerThread / 32) * 32;
  // Beyond 1024 threads a thread has more elements than it can keep, and the kernels read the row twice.
  return { threads: Math.min(1024, threads), rows: 1 };
}
