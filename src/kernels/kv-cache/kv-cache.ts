import type { DType } from "../../base/dtype.ts";
import type { DevicePtr } from "../../driver/api.ts";
import { nullPtr } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { launch } from "../library.ts";
import { angleArgs, type RopeAngles, ropeBlock } from "../rope/rope.ts";
import { defineKernel } from "../spec.ts";

/** Tokens in one block of the paged cache; the same number is in paged-cache.cuh. */
export const cacheBlockTokens = 16;

export const ropeStoreKernel = defineKernel({
  family: "rope_store",
  source: "kv-cache/rope-store.cu",
  args: {
    queryOut: "ptr",
    query: "ptr",
    key: "ptr",
    value: "ptr",
    keyCache: "ptr",
    valueCache: "ptr",
    queryOutStride: "i64",
    queryStride: "i64",
    keyStride: "i64",
    valueStride: "i64",
    slots: "ptr",
    positions: "ptr",
    frequencies: "ptr",
    queryStarts: "ptr",
    sequenceLengths: "ptr",
    sequences: "i32",
    dynamicFactor: "f32",
    trainedContext: "i32",
    attentionScale: "f32",
    heads: "i32",
    kvHeads: "i32",
    headDim: "i32",
    rotaryDim: "i32",
    queryNorm: "ptr",
    keyNorm: "ptr",
    normEps: "f32",
    normOffset: "f32",
    settled: "i32",
  },
  axes: { dtype: ["f32", "f16", "bf16"] },
  targets: (v) => (v.dtype === "bf16" ? ["sm_60", "sm_80", "sm_90"] : ["sm_60", "sm_90"]),
});

/** Where the keys and values of new tokens go. */
export interface CacheStore {
  /** [T, G, D], `keyStride` and `valueStride` elements from token to token. */
  readonly key: DevicePtr;
  readonly value: DevicePtr;
  readonly keyStride: number;
  readonly valueStride: number;
  /** [blocks, G, 16, D]. */
  readonly keyCache: DevicePtr;
  readonly valueCache: DevicePtr;
  /** i32 [T]: block · 16 + offset of each token, or -1 to store nothing (queries are rotated all the same). */
  readonly slots: DevicePtr;
  readonly tokens: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly dtype: DType;
  /**
   * The integers that describe the batch (slots, positions, lengths, tables) were all in place before the stream's previous
   * kernel could begin: they may be read while that one still runs (ForwardContext.settled).
   */
  readonly settled?: boolean;
}

/** RMSNorm over the D elements of every query and key head, before they are turned (QK-norm). */
export interface HeadNorm {
  /** [D], of the batch's dtype. */
  readonly query: DevicePtr;
  readonly key: DevicePtr;
  readonly eps: number;
  /** Added to the weights in float32; 1 for Gemma, default 0. */
  readonly weightOffset?: number;
}

export interface RopeStoreArgs extends CacheStore, RopeAngles {
  /** [T, H, D], `queryStride` elements from token to token. */
  readonly query: DevicePtr;
  readonly queryStride: number;
  readonly heads: number;
  /** Where rotated queries go; default: in place. */
  readonly queryOut?: DevicePtr;
  readonly queryOutStride?: number;
  readonly norm?: HeadNorm;
}

/**
 * Rotates the queries and keys of T tokens and stores keys and values in the paged cache, in one launch that reads the
 * fused QKV row once. Equal, bit for bit, to rope() on queries and keys followed by storeKeysAndValues(). With `norm`, query
 * and key heads are normalised first, in float32 and without rounding in between. The keys' own row is left as it was.
 */
export function ropeStore(stream: Stream, p: RopeStoreArgs): void {
  const rows = p.heads + 2 * p.kvHeads;
  if (p.tokens === 0 || rows === 0 || p.headDim === 0) return;
  launch(
    stream,
    ropeStoreKernel,
    { dtype: p.dtype.short as "f32" },
    { grid: [p.tokens, Math.ceil(rows / ropeBlock.heads)], block: ropeBlock.threads },
    {
      ...angleArgs(p),
      queryOut: p.queryOut ?? p.query,
      query: p.query,
      key: p.key,
      value: p.value,
      keyCache: p.keyCache,
      valueCache: p.valueCache,
      queryOutStride: BigInt(p.queryOutStride ?? p.queryStride),
      queryStride: BigInt(p.queryStride),
      keyStride: BigInt(p.keyStride),
      valueStride: BigInt(p.valueStride),
      slots: p.slots,
      heads: p.heads,
      kvHeads: p.kvHeads,
      headDim: p.headDim,
      queryNorm: p.norm?.query ?? nullPtr,
      keyNorm: p.norm?.key ?? nullPtr,
      normEps: p.norm?.eps ?? 0,
      normOffset: p.norm?.weightOffset ?? 0,
      settled: p.settled ? 1 : 0,
    },
    { overlap: true },
  );
}

/** Stores keys and values as they are: for layers without rotary embedding, or whose keys are rotated already. */
export function storeKeysAndValues(stream: Stream, p: CacheStore): void {
  const nothing = { query: nullPtr, queryStride: 0, heads: 0, positions: nullPtr, frequencies: nullPtr };
  ropeStore(stream, { ...p, ...nothing, attentionScale: 1, rotaryDim: 0 });
}
