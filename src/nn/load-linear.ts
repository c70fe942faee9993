import { QuantizedWeight } from "../tensor/quantized-weight.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { Linear } from "./linear.ts";
import type { Projection } from "./projection.ts";
import { QuantizedLinear } from "./quantized-linear.ts";
import { StackedLinear } from "./stacked-linear.ts";
import { join, type Weights } from "./weights.ts";

/**
 * One projection from the checkpoint's `names` of `rows[i]` outputs each, all of `k` inputs. What it is, follows from how the
 * weights are stored: one matrix, quantized or not, or several side by side.
 */
export function loadStackedLinear(
  weights: Weights,
  names: readonly string[],
  rows: readonly number[],
  k: number,
  bias: boolean,
): Projection {
  const parts = names.map((name, i) => ({ name: `${name}.weight`, shape: [rows[i]!, k] as const }));
  let first = 0;
  const projections = weights.matrices(parts).map((matrix) => {
    const taken = takeRows(rows, first, matrix.shape[0]!);
    const biases = names.slice(first, taken).map((name, i) => ({ name: `${name}.bias`, shape: [rows[first + i]!] }));
    first = taken;
    return projectionOf(matrix, bias ? weights.stacked(biases) : undefined);
  });
  const projection = projections.length === 1 ? projections[0]! : new StackedLinear(projections);
  projection.stacks = names.map((name, i) => ({ name: join(weights.prefix, name), rows: rows[i]! }));
  return projection;
}

/** The first part behind those that `height` rows from part `first` on cover. */
function takeRows(rows: readonly number[], first: number, height: number): number {
  let next = first;
  for (let covered = 0; covered < height; next++) covered += rows[next]!;
  return next;
}

/** The layer for a weight, as it is stored. */
export function projectionOf(weight: Tensor | QuantizedWeight, bias?: Tensor): Projection {
  return weight instanceof QuantizedWeight
    ? new QuantizedLinear(weight, bias)
    : new Linear(weight, bias, { fixed: true });
}
