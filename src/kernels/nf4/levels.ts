/** The tables of 4-bit codes. bitsandbytes writes them into a checkpoint as `quant_map`, and so they are data here too. */

export type Code4Name = "nf4" | "fp4";

/** NF4: levels that cut a normal density into sixteen parts of about equal weight, with an exact zero. */
const nf4 = [
  -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
  -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
  0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
];

/** FP4: sign, two bits of exponent, one of mantissa, in twelfths; by code, not by size. */
const fp4Twelfths = [0, 0.0625, 8, 12, 4, 6, 2, 3];

/** level[code] of a 4-bit type, each exactly a float32. */
export const code4Levels: Readonly<Record<Code4Name, Float32Array>> = {
  nf4: Float32Array.from(nf4),
  fp4: Float32Array.from([...fp4Twelfths, ...fp4Twelfths.map((x) => -x)], (x) => Math.fround(x) / 12),
};

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
