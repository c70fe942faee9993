/** Block sizes that bitsandbytes and these kernels take: elements that share one absmax. */
export const code4BlockSizes: readonly number[] = [32, 64, 128, 256, 512, 1024, 2048, 4096];

/** Elements that share one absmax of absmax. */
export const nestedBlockSize = 256;

/**
 * The 256 ascending entries of bitsandbytes' signed 8-bit dynamic code, in which absmax is stored under double quantization:
 * seven decades, each with twice as many steps as the one below, the means of neighbouring points of an even grid on
 * [0.1, 1]; and 0 and 1. Float32 arithmetic as torch does it, so that the entries are the same bits.
 */
export function dynamicCode(): Float32Array {
  const values: number[] = [0, 1];
  for (let decade = 0; decade < 7; decade++) {
    const grid = evenGrid(2 ** decade + 1);
    for (let i = 0; i + 1 < grid.length; i++) {
      const mean = Math.fround(Math.fround(grid[i]! + grid[i + 1]!) / 2);
      const value = Math.fround(Math.fround(10 ** (decade - 6)) * mean);
      values.push(value, -value);
    }
  }
  return Float32Array.from(values).sort();
}

/** torch.linspace(0.1, 1, count) in float32: from both ends to the middle, each point one fused multiply-add. */
function evenGrid(count: number): number[] {
  const start = Math.fround(0.1);
  const step = Math.fround(Math.fround(1 - start) / (count - 1));
  return Array.from({ length: count }, (_, i) =>
    Math.fround(i < Math.floor(count / 2) ? start + step * i : 1 - step * (count - 1 - i)),
  );
}
