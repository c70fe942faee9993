import type { DType } from "../../base/dtype.ts";
import { type DevicePtr, ptrAdd } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { type FloatVariant, floatDTypes, floatVariant } from "../float-variant.ts";
import { launch } from "../library.ts";
import { type ArgSpec, defineKernel } from "../spec.ts";

const shared = {
  logits: "ptr",
  logitsStride: "i64",
  vocab: "i32",
  parts: "i32",
  partials: "ptr",
  states: "ptr",
  listed: "ptr",
  temperature: "ptr",
  topK: "ptr",
  topP: "ptr",
  minP: "ptr",
  seeds: "ptr",
  steps: "ptr",
  tokens: "ptr",
  greedyOnly: "i32",
} as const satisfies ArgSpec;

const targets = ["sm_60", "sm_90"] as const;
const axes = { dtype: floatDTypes } as const;

/** One argument list for all, which read what they need of it: docs/kernels/sampling.md says what each does. */
export const samplingMaxKernel = defineKernel({
  family: "sampling_max",
  source: "sampling/sampling-max.cu",
  args: shared,
  axes,
  targets,
});
export const samplingHistogramKernel = defineKernel({
  family: "sampling_histogram",
  source: "sampling/sampling-histogram.cu",
  args: shared,
  axes,
  targets,
});
export const samplingGatherKernel = defineKernel({
  family: "sampling_gather",
  source: "sampling/sampling-gather.cu",
  args: shared,
  axes,
  targets,
});
export const samplingGreedyKernel = defineKernel({
  family: "sampling_greedy",
  source: "sampling/sampling-greedy.cu",
  args: shared,
  axes,
  targets,
});
export const samplingDrawKernel = defineKernel({
  family: "sampling_draw",
  source: "sampling/sampling-draw.cu",
  args: shared,
  axes,
  targets,
});

/** What `tokens` holds for a row whose logits have NaN or +inf, or are -inf throughout. */
export const samplingFailed = -1;

/** Logits per block, SAMPLE_PART in sampling.cuh. */
export const samplePart = 4096;
/** Bytes of `RowState` in sampling.cuh. */
export const sampleStateBytes = 24_592;

export interface SamplingArgs {
  /** [B, V], any floating dtype. */
  readonly logits: DevicePtr;
  /** Elements from one row to the next; default V. */
  readonly logitsStride?: number;
  readonly rows: number;
  /** V, at least 1 and below 2^24. */
  readonly vocab: number;
  readonly dtype: DType;
  /** f32 [B]; 0 (or negative, or NaN) takes the largest logit and ignores the other parameters. */
  readonly temperature: DevicePtr;
  /** i32 [B]; 0 or negative keeps all. */
  readonly topK: DevicePtr;
  /** f32 [B]; 1 or more keeps all, and 0 or less keeps the most probable token (and its equals). */
  readonly topP: DevicePtr;
  /** f32 [B], relative to the most probable token; 0 or less keeps all, more than 1 counts as 1. */
  readonly minP: DevicePtr;
  /** u64 [B]. */
  readonly seeds: DevicePtr;
  /** u32 [B]: how many tokens were drawn with this seed before. (seed, step) alone decides the random number. */
  readonly steps: DevicePtr;
  /** i32 [B], the result: a token id, or `samplingFailed`. */
  readonly tokens: DevicePtr;
  /** At least `samplingWorkspaceBytes`, 16-byte aligned; need not be initialised. */
  readonly workspace: DevicePtr;
  /** The caller knows that every temperature is 0 and saves two launches; rows with another one are taken greedily. */
  readonly greedyOnly?: boolean;
}

const align = (bytes: number): number => Math.ceil(bytes / 256) * 256;

function layout(rows: number, vocab: number) {
  const parts = Math.ceil(vocab / samplePart);
  const states = align(rows * parts * 8);
  const listed = states + align(rows * sampleStateBytes);
  return { parts, states, listed, bytes: listed + align(rows * vocab * 4) };
}

/** Per row 24 KB, and 4 bytes per vocabulary entry. */
export function samplingWorkspaceBytes(rows: number, vocab: number): number {
  return layout(rows, vocab).bytes;
}

/**
 * Draws one token per row: logits / temperature, then top-k, then top-p, then min-p, then the softmax of what is left.
 *
 * As in transformers, top-p is of the distribution that top-k left: the fewest of the most probable tokens whose
 * probabilities sum to p or more, at least one; min-p keeps p >= minP * pmax. Equal logits are kept or dropped together:
 * those equal to the k-th largest all stay (as in transformers), and so do those equal to the last that top-p needs
 * (transformers splits them by its sort). Tokens less probable than 2^-40 of the best are never drawn.
 *
 * All sums are integers, so that the token depends on the row's logits, its parameters, its seed and its step, and on
 * nothing else: not on the batch, the grid or the order in which blocks run. Safe under capture: all parameters are in
 * device memory. Four launches, or two with `greedyOnly`.
 */
export function sample(stream: Stream, p: SamplingArgs): void {
  if (p.rows === 0) return;
  const at = layout(p.rows, p.vocab);
  const variant: FloatVariant = floatVariant("sample", p.dtype);
  const args = {
    logits: p.logits,
    logitsStride: BigInt(p.logitsStride ?? p.vocab),
    vocab: p.vocab,
    parts: at.parts,
    partials: p.workspace,
    states: ptrAdd(p.workspace, at.states),
    listed: ptrAdd(p.workspace, at.listed),
    temperature: p.temperature,
    topK: p.topK,
    topP: p.topP,
    minP: p.minP,
    seeds: p.seeds,
    steps: p.steps,
    tokens: p.tokens,
    greedyOnly: p.greedyOnly ? 1 : 0,
  };
  const overlap = { overlap: true };
  const perPart = { grid: [p.rows, at.parts] as const, block: 256 };
  launch(stream, samplingMaxKernel, variant, perPart, args, overlap);
  if (p.greedyOnly) {
    launch(stream, samplingGreedyKernel, variant, { grid: [p.rows], block: 32 }, args, overlap);
    return;
  }
  launch(stream, samplingHistogramKernel, variant, perPart, args, overlap);
  launch(stream, samplingGatherKernel, variant, perPart, args, overlap);
  launch(stream, samplingDrawKernel, variant, { grid: [p.rows], block: 512 }, args, overlap);
}
