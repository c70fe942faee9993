import type { DType } from "../../base/dtype.ts";
import { DTypeError } from "../../base/errors.ts";
import type { Shape } from "../../base/shape.ts";
import type { DevicePtr } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { checkRank } from "../layout.ts";
import { launch } from "../library.ts";
import { defineKernel } from "../spec.ts";
import { chooseReduce, chunkSize, type ReduceChoice } from "./choice.ts";

const reducibleTypes = ["f32", "f16", "bf16", "i32", "i64"] as const;

export const reduceKernel = defineKernel({
  family: "reduce",
  source: "reduce/reduce.cu",
  args: {
    out: "ptr",
    x: "ptr",
    outputs: "i64",
    reduced: "i64",
    chunk: "i64",
    chunks: "i64",
    op: "i32",
    lanes: "i32",
    columns: "i32",
    vector: "i32",
    inPartial: "i32",
    outPartial: "i32",
    divisor: "f32",
    keptRank: "i32",
    keptShape: "dims",
    keptStrides: "dims",
    reducedRank: "i32",
    reducedShape: "dims",
    reducedStrides: "dims",
  },
  axes: { dtype: reducibleTypes },
  targets: ({ dtype }) => (dtype === "bf16" ? ["sm_60", "sm_80"] : ["sm_60"]),
});

/** The mean is a sum that is divided at the end. */
const codes = { sum: 0, mean: 0, max: 1, min: 2 } as const;
export type ReduceOp = keyof typeof codes;

export interface ReduceArgs {
  readonly op: ReduceOp;
  /** Contiguous, of the kept dimensions in their order. */
  readonly out: DevicePtr;
  /** `dtype`, or the type of the accumulator: float32 for floats, int64 for integers. */
  readonly outDType: DType;
  readonly x: DevicePtr;
  readonly dtype: DType;
  readonly shape: Shape;
  /** In elements, one per dimension. */
  readonly strides: readonly number[];
  /** The dimensions to reduce: not negative, each once. */
  readonly dims: readonly number[];
  /** `reduceWorkspaceBytes` bytes; unused when that is 0. */
  readonly workspace: DevicePtr;
}

/** Bytes of scratch memory that `reduce` needs for this shape. */
export function reduceWorkspaceBytes(p: Pick<ReduceArgs, "shape" | "dims" | "dtype">): number {
  const sizes = (reduced: boolean): number =>
    p.shape.reduce((n, size, d) => (p.dims.includes(d) === reduced ? n * size : n), 1);
  const chunks = Math.ceil(sizes(true) / chunkSize);
  return chunks > 1 ? chunks * sizes(false) * (p.dtype.isFloat ? 4 : 8) : 0;
}

/**
 * out = sum, mean, max or min of x over `dims`. float32, float16, bfloat16 (float32 accumulation); int32 and int64 (int64
 * accumulation, no mean). The result is deterministic: reduce.cu says in which order it adds. NaN in x gives NaN.
 * An empty reduction gives 0, and for max and min the least or greatest value of the accumulator.
 * Throws DTypeError for other types; UnsupportedError for more than eight kept or reduced dimensions that do not merge.
 */
export function reduce(stream: Stream, p: ReduceArgs): void {
  const dtype = reducibleTypes.find((t) => t === p.dtype.short);
  if (!dtype || (p.op === "mean" && !p.dtype.isFloat)) {
    throw new DTypeError(`${p.op}: no kernel for ${p.dtype.name}; cast to a floating type first`);
  }
  const choice = chooseReduce(p.shape, p.strides, p.dims, p.dtype.bytes, p.x);
  if (choice.outputs === 0) return;
  checkRank(p.op, choice.kept);
  checkRank(p.op, choice.reduced);
  const divisor = p.op === "mean" ? choice.reducedCount : 1;
  const wide = p.outDType !== p.dtype;
  const first = choice.chunks === 1;
  pass(stream, dtype, codes[p.op], choice, {
    out: first ? p.out : p.workspace,
    x: p.x,
    inPartial: false,
    outPartial: first ? wide : true,
    divisor: first ? divisor : 1,
  });
  if (first) return;
  pass(stream, dtype, codes[p.op], overPartials(choice), {
    out: p.out,
    x: p.workspace,
    inPartial: true,
    outPartial: wide,
    divisor,
  });
}

/** Partial results lie as [chunks, outputs]; they are reduced over the chunks in one piece. */
function overPartials({ outputs, chunks }: ReduceChoice): ReduceChoice {
  return {
    kept: { shape: [outputs], strides: [[1]] },
    reduced: { shape: [chunks], strides: [[outputs]] },
    outputs,
    reducedCount: chunks,
    chunks: 1,
    // One output: all lanes on it. Several: lanes that read neighbouring outputs. Which of the two must not change the
    // order of additions, so both use eight lanes.
    lanes: 8,
    columns: true,
    vector: false,
  };
}

interface Pass {
  readonly out: DevicePtr;
  readonly x: DevicePtr;
  readonly inPartial: boolean;
  readonly outPartial: boolean;
  readonly divisor: number;
}

function pass(stream: Stream, dtype: (typeof reducibleTypes)[number], op: number, c: ReduceChoice, p: Pass): void {
  const blocks = Math.ceil((c.outputs * c.chunks * c.lanes) / 256);
  launch(
    stream,
    reduceKernel,
    { dtype },
    { grid: [Math.min(blocks, stream.device.attributes.multiprocessors * 64)], block: 256 },
    {
      out: p.out,
      x: p.x,
      outputs: BigInt(c.outputs),
      reduced: BigInt(c.reducedCount),
      chunk: BigInt(c.chunks === 1 ? c.reducedCount : chunkSize),
      chunks: BigInt(c.chunks),
      op,
      lanes: c.lanes,
      columns: c.columns ? 1 : 0,
      vector: c.vector ? 1 : 0,
      inPartial: p.inPartial ? 1 : 0,
      outPartial: p.outPartial ? 1 : 0,
      divisor: p.divisor,
      keptRank: c.kept.shape.length,
      keptShape: c.kept.shape,
      keptStrides: c.kept.strides[0]!,
      reducedRank: c.reduced.shape.length,
      reducedShape: c.reduced.shape,
      reducedStrides: c.reduced.strides[0]!,
    },
  );
}
