import { type DType, float32 } from "../../base/dtype.ts";
import { UnsupportedError } from "../../base/errors.ts";
import { type DevicePtr, ptrAdd } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { chooseTarget, deviceTargets, type KernelShape, launch } from "../library.ts";
import { type ArgSpec, defineKernel } from "../spec.ts";
import { targetNumber } from "../target.ts";
import { type AttentionShape, fewQueries, headDimRefusal, planSplit, planTiles, tileWidth } from "./plan.ts";

const dtypes = ["f32", "f16", "bf16"] as const;

/** What both paths read, in the order in which their kernels take it. */
const inputArgs = {
  query: "ptr",
  keyCache: "ptr",
  valueCache: "ptr",
  queryStarts: "ptr",
  contextLengths: "ptr",
  blockTable: "ptr",
  queryStride: "i64",
  maxBlocks: "i32",
  heads: "i32",
  kvHeads: "i32",
  headDim: "i32",
} as const satisfies ArgSpec;

const splitArgs = {
  partial: "ptr",
  stats: "ptr",
  ...inputArgs,
  splits: "i32",
  queries: "i32",
  window: "i32",
  scale: "f32",
  softcap: "f32",
} as const satisfies ArgSpec;

/** The split path of float32, and of 16 bits before sm_80. */
export const attentionSplitKernel = defineKernel({
  family: "attention_split",
  source: "attention/attention-split.cu",
  args: splitArgs,
  axes: { dtype: dtypes, rows: ["1", "4", "8"] },
  targets: (v) => (v.dtype === "f32" ? ["sm_60", "sm_90"] : ["sm_60"]),
});

export const attentionSplitMmaKernel = defineKernel({
  family: "attention_split_mma",
  source: "attention/attention-split-mma.cu",
  args: { ...splitArgs, settled: "i32" },
  axes: { dtype: ["f16", "bf16"], width: ["64", "128", "256"] },
  targets: ["sm_80", "sm_90"],
});

export const attentionCombineKernel = defineKernel({
  family: "attention_combine",
  source: "attention/attention-combine.cu",
  args: {
    out: "ptr",
    partial: "ptr",
    stats: "ptr",
    queryStarts: "ptr",
    contextLengths: "ptr",
    heads: "i32",
    headDim: "i32",
    splits: "i32",
    queries: "i32",
    window: "i32",
    settled: "i32",
  },
  axes: { dtype: dtypes },
  targets: (v) => (v.dtype === "bf16" ? ["sm_60", "sm_80", "sm_90"] : ["sm_60", "sm_90"]),
});

export const attentionTilesKernel = defineKernel({
  family: "attention_tiles",
  source: "attention/attention-tiles.cu",
  args: {
    out: "ptr",
    ...inputArgs,
    rowTiles: "i32",
    window: "i32",
    scale: "f32",
    softcap: "f32",
  },
  axes: { dtype: dtypes, width: ["64", "128", "256"] },
  // Before sm_80 and for float32: SIMT. From sm_80 on: mma.sync.
  targets: (v) => (v.dtype === "f32" ? ["sm_60"] : ["sm_60", "sm_80"]),
});

/**
 * A batch of B sequences with T new tokens over a paged cache. New token i of a sequence with n of them stands at position
 * contextLength - n + i; its key and value are in the cache already (ropeStore).
 */
export interface AttentionArgs extends AttentionShape {
  /** [T, H, D], contiguous. */
  readonly out: DevicePtr;
  /** [T, H, D], `queryStride` elements from token to token, 16-byte aligned. */
  readonly query: DevicePtr;
  readonly queryStride: number;
  /** [blocks, G, 16, D]. */
  readonly keyCache: DevicePtr;
  readonly valueCache: DevicePtr;
  /** i32 [B + 1], [B] and [B, maxBlocks]. Table entries past a context, or wholly before its window, are not read. */
  readonly queryStarts: DevicePtr;
  readonly contextLengths: DevicePtr;
  readonly blockTable: DevicePtr;
  readonly maxBlocks: number;
  /** Multiplies q·k; usually 1/sqrt(D). */
  readonly scale: number;
  /** Scores become softcap · tanh(score / softcap); 0 or undefined for none. */
  readonly softcap?: number;
  /** As in CacheStore; keys and values of tokens before the new ones, too. */
  readonly settled?: boolean;
  /** attentionWorkspaceBytes() of the same shape, 16-byte aligned; content before and after means nothing. */
  readonly workspace: DevicePtr;
  readonly dtype: DType;
}

function partialRows(s: AttentionShape): number {
  const plan = planSplit(s, false);
  return s.sequences * plan.queries * s.heads * plan.splits;
}

/** Device memory that pagedAttention() writes partial results to: float32, D + 2 for each (query, head, chunk). */
export function attentionWorkspaceBytes(s: AttentionShape): number {
  return partialRows(s) * (s.headDim + 2) * 4;
}

/**
 * Causal grouped-query attention over a paged KV cache: out = softmax(scale · q·Kᵀ, masked) · V per query and head, softmax
 * and sums in float32. D is a multiple of 8, at most 256 (else UnsupportedError); H a multiple of G. f32, f16, bf16.
 *
 * Sequences with few new tokens (decode) split their context over many blocks and a second kernel combines the parts;
 * sequences with more (prefill) stream K and V past tiles of queries. Which path a sequence takes, and every order of
 * summation, depend on that sequence alone, so results do not change with the batch, maxQuery or maxContext.
 * Sources: online softmax, arXiv 1805.02867; FlashAttention, arXiv 2205.14135 and 2307.08691; paged cache, arXiv 2309.06180.
 */
export function pagedAttention(stream: Stream, p: AttentionArgs): void {
  const reason = headDimRefusal(p.headDim);
  if (reason) throw new UnsupportedError(`pagedAttention: ${reason}`);
  if (p.sequences === 0 || p.heads === 0 || p.maxQuery === 0 || p.maxContext === 0) return;
  const dtype = p.dtype.short as "f32";
  const stats = ptrAdd(p.workspace, partialRows(p) * p.headDim * 4);
  const window = p.window ?? 0;
  const settled = p.settled ? 1 : 0;
  const shared = {
    queryStarts: p.queryStarts,
    contextLengths: p.contextLengths,
    heads: p.heads,
    headDim: p.headDim,
    window,
  };
  const inputs = {
    query: p.query,
    keyCache: p.keyCache,
    valueCache: p.valueCache,
    blockTable: p.blockTable,
    queryStride: BigInt(p.queryStride),
    maxBlocks: p.maxBlocks,
    kvHeads: p.kvHeads,
    scale: p.scale,
    softcap: p.softcap ?? 0,
  };

  if ((p.minQuery ?? 0) <= fewQueries) {
    const tensorCores = p.dtype !== float32 && targetNumber(deviceTargets(stream.device)[0]!) >= 80;
    const split = planSplit(p, tensorCores);
    const grid = [split.splits * p.sequences, p.kvHeads * split.rowTiles] as const;
    const at: KernelShape = { grid, block: 128, sharedBytes: split.sharedBytes };
    const args = { ...shared, ...inputs, partial: p.workspace, stats, splits: split.splits, queries: split.queries };
    if (tensorCores) {
      const variant = { dtype: p.dtype.short as "f16", width: tileWidth(p.headDim) };
      launch(stream, attentionSplitMmaKernel, variant, at, { ...args, settled }, { overlap: true });
    } else {
      const variant = { dtype, rows: String(split.rows) as "1" };
      launch(stream, attentionSplitKernel, variant, at, args, { overlap: true });
    }
    launch(
      stream,
      attentionCombineKernel,
      { dtype },
      { grid: [p.sequences * p.heads, split.queries], block: 128 },
      { ...shared, out: p.out, partial: p.workspace, stats, splits: split.splits, queries: split.queries, settled },
      { overlap: true },
    );
  }
  if (p.maxQuery <= fewQueries) return;
  const variant = { dtype, width: tileWidth(p.headDim) };
  const target = chooseTarget(attentionTilesKernel, variant, stream.device);
  const tiles = planTiles(p, p.dtype !== float32 && targetNumber(target) >= 80);
  launch(
    stream,
    attentionTilesKernel,
    variant,
    { grid: [tiles.rowTiles * p.sequences, p.kvHeads], block: 128, sharedBytes: tiles.sharedBytes },
    { ...shared, ...inputs, out: p.out, rowTiles: tiles.rowTiles },
  );
}
