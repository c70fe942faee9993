import { dynamicFrequencyFactor } from "../../src/nn/rope-frequencies.ts";

export interface RotateReference {
  readonly positions: Int32Array;
  readonly frequencies: Float32Array;
  readonly attentionScale: number;
  readonly rotaryDim: number;
  readonly heads: number;
  readonly headDim: number;
  /** Elements from token to token. */
  readonly row: number;
  readonly byLength?: {
    readonly factor?: number;
    readonly trainedContext: number;
    /** Length of the sequence that token t belongs to. */
    readonly lengthOf: (t: number) => number;
  };
}

/**
 * Rotary embedding in float64, but for frequency and angle, which are rounded to float32 where the reference
 * implementation rounds them: at position 10^6 that rounding alone moves an angle by up to 0.03.
 */
export function rotateReference(x: Float64Array, p: RotateReference): Float64Array {
  const out = x.slice();
  const pairs = p.rotaryDim / 2;
  p.positions.forEach((position, t) => {
    for (let i = 0; i < pairs; i++) {
      const angle = Math.fround(position * Math.fround(frequencyOf(t, i, p)));
      const cos = Math.cos(angle) * p.attentionScale;
      const sin = Math.sin(angle) * p.attentionScale;
      for (let h = 0; h < p.heads; h++) {
        const at = t * p.row + h * p.headDim + i;
        const [low, high] = [x[at]!, x[at + pairs]!];
        out[at] = low * cos - high * sin;
        out[at + pairs] = high * cos + low * sin;
      }
    }
  });
  return out;
}

function frequencyOf(t: number, i: number, { byLength, frequencies, rotaryDim }: RotateReference): number {
  if (!byLength) return frequencies[i]!;
  const { factor, trainedContext } = byLength;
  const length = byLength.lengthOf(t);
  if (factor === undefined) return frequencies[length > trainedContext ? rotaryDim / 2 + i : i]!;
  return frequencies[i]! * dynamicFrequencyFactor({ factor, trainedContext }, length, i, rotaryDim);
}
