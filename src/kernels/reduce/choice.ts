import { elementCount, type Shape } from "../../base/shape.ts";
import { coalesce, type Layout } from "../layout.ts";

/** Elements that one group of lanes reduces; more are cut into chunks. Part of the order of additions: see reduce.cu. */
export const chunkSize = 16384;

export interface ReduceChoice {
  /** One operand each: the strides of x. */
  readonly kept: Layout;
  readonly reduced: Layout;
  readonly outputs: number;
  readonly reducedCount: number;
  readonly chunks: number;
  /** Threads per item, a power of two up to 256. */
  readonly lanes: number;
  /** Neighbouring threads take neighbouring outputs instead of neighbouring reduced elements. */
  readonly columns: boolean;
  /** 16-byte loads along the reduced dimension. */
  readonly vector: boolean;
}

/**
 * How to reduce `dims` (not negative, each once) of a view. The order of additions follows from the reduced sizes, the
 * strides and the alignment, not from the number of outputs: a row gives the same result in any batch.
 */
export function chooseReduce(
  shape: Shape,
  strides: readonly number[],
  dims: readonly number[],
  elementBytes: number,
  x: bigint,
): ReduceChoice {
  const pick = (values: readonly number[], reduced: boolean): number[] =>
    values.filter((_, d) => dims.includes(d) === reduced);
  const kept = coalesce(pick(shape, false), [pick(strides, false)]);
  const reduced = coalesce(pick(shape, true), [pick(strides, true)]);
  const reducedCount = elementCount(reduced.shape);
  const chunks = Math.max(1, Math.ceil(reducedCount / chunkSize));
  const reducedSteps = reduced.strides[0]!;
  const keptSteps = kept.strides[0]!;
  const alongRows = reducedSteps[reducedSteps.length - 1] === 1;
  const columns = !alongRows && keptSteps[keptSteps.length - 1] === 1 && elementCount(kept.shape) > 1;
  const width = 16 / elementBytes;
  const vector =
    alongRows &&
    reduced.shape.length === 1 &&
    reducedCount % width === 0 &&
    x % 16n === 0n &&
    (elementCount(kept.shape) === 1 || keptSteps.every((s) => s % width === 0));
  const perLane = Math.min(reducedCount, chunkSize) / (vector ? width : 1);
  return {
    kept,
    reduced,
    outputs: elementCount(kept.shape),
    reducedCount,
    chunks,
    lanes: columns ? powerOfTwo(reducedCount / 8, 8) : powerOfTwo(perLane, 256),
    columns,
    vector,
  };
}

/** The least power of two that is not below `wanted`, from 1 to `most`. */
function powerOfTwo(wanted: number, most: number): number {
  let n = 1;
  while (n < wanted && n < most) n *= 2;
  return n;
}
