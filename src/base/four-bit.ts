/** The 4-bit types of bitsandbytes: what each of the sixteen codes stands for, before its block's absmax scales it. */
export type FourBitType = "nf4" | "fp4";

/**
 * NF4: sixteen quantiles of a normal distribution scaled to [-1, 1], with an exact 0, so not symmetric (QLoRA, arXiv
 * 2305.14314). These are the float32 numbers that bitsandbytes writes as `quant_map`.
 */
const nf4 = [
  ...[-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453],
  ...[-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0],
  ...[0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224],
  ...[0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0],
];

/** FP4 (sign, two bits of exponent, one of fraction) in bitsandbytes' order of codes, divided by its largest value, 12. */
const fp4Magnitudes = [0, 0.0625, 8, 12, 4, 6, 2, 3];
const fp4 = [...fp4Magnitudes, ...fp4Magnitudes.map((x) => -x)].map((x) => x / 12);

/** The levels by code, as float32. */
export const fourBitLevels: Readonly<Record<FourBitType, Float32Array>> = {
  nf4: Float32Array.from(nf4),
  fp4: Float32Array.from(fp4),
};
