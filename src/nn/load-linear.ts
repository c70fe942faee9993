import { Linear } from "./linear.ts";
import type { Weights } from "./weights.ts";

/** One Linear from the projections `names` of `rows[i]` outputs each, all of `k` inputs. */
export function loadStackedLinear(
  weights: Weights,
  names: readonly string[],
  rows: readonly number[],
  k: number,
  bias: boolean,
): Linear {
  const parts = (suffix: string, tail: number[]) =>
    names.map((name, i) => ({ name: `${name}.${suffix}`, shape: [rows[i]!, ...tail] }));
  const stackedBias = bias ? weights.stacked(parts("bias", [])) : undefined;
  return new Linear(weights.stacked(parts("weight", [k])), stackedBias, { fixed: true });
}
