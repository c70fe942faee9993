/** Random ragged batches over a paged cache, and what attention over them gives in float64. No GPU needed. */
import type { DType, HostArray } from "../../src/base/dtype.ts";
import { encodeArray } from "../../src/base/element.ts";
import { cacheBlockTokens } from "../../src/kernels/kv-cache/kv-cache.ts";
import { normals, random, toNumbers } from "../support/numerics.ts";

export interface BatchShape {
  /** New tokens and context length (new ones included) of each sequence. */
  readonly sequences: readonly (readonly [queries: number, context: number])[];
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly dtype: DType;
  readonly seed: number;
  /** Keys that a query sees, its own included; older ones are poisoned where no query sees them. */
  readonly window?: number;
  readonly softcap?: number;
  /** Multiplies scores; 1/√D by default. */
  readonly scale?: number;
}

export interface PagedBatch extends BatchShape {
  readonly tokens: number;
  /** [T, H + 2G, D]: as a fused projection leaves it; the last 2G heads are poison. */
  readonly query: HostArray;
  readonly queryStride: number;
  /** [blocks, G, 16, D]: NaN but for the slots that some query sees. */
  readonly keyCache: HostArray;
  readonly valueCache: HostArray;
  readonly queryStarts: Int32Array;
  readonly contextLengths: Int32Array;
  readonly blockTable: Int32Array;
  readonly maxBlocks: number;
  readonly scale: number;
}

/** NaN in every float type. */
export function poisoned(dtype: DType, count: number): HostArray {
  const array = dtype.array(count);
  new Uint8Array(array.buffer).fill(0x7f);
  return array;
}

export function pagedBatch(shape: BatchShape): PagedBatch {
  const { sequences, heads, kvHeads, headDim, dtype, seed } = shape;
  const tokens = sequences.reduce((sum, [queries]) => sum + queries, 0);
  const blocksOf = sequences.map(([, context]) => Math.ceil(context / cacheBlockTokens));
  const maxBlocks = Math.max(1, ...blocksOf) + 2;
  // Block 0 stays poison, and so do the unused tails of tables, which point at it.
  const blocks = 1 + blocksOf.reduce((a, b) => a + b, 0) + 3;
  const free = shuffled(
    Array.from({ length: blocks - 1 }, (_, i) => i + 1),
    seed,
  );
  const blockTable = new Int32Array(sequences.length * maxBlocks);
  const keyCache = poisoned(dtype, blocks * kvHeads * cacheBlockTokens * headDim);
  const valueCache = poisoned(dtype, keyCache.length);
  sequences.forEach(([queries, context], b) => {
    const oldest = shape.window ? Math.max(0, context - queries - shape.window + 1) : 0;
    for (let i = 0; i < blocksOf[b]!; i++) {
      const block = free.pop()!;
      blockTable[b * maxBlocks + i] = (i + 1) * cacheBlockTokens <= oldest ? 0 : block;
    }
    const count = context * kvHeads * headDim;
    const own = { k: seed * 1000 + b * 2, v: seed * 1000 + b * 2 + 1 };
    const keys = encodeArray(dtype, normals(count, own.k));
    const values = encodeArray(dtype, normals(count, own.v));
    for (let position = oldest; position < context; position++) {
      for (let g = 0; g < kvHeads; g++) {
        const from = (position * kvHeads + g) * headDim;
        const to = cacheRow(blockTable, b * maxBlocks, position, g, kvHeads) * headDim;
        keyCache.set(keys.subarray(from, from + headDim) as never, to);
        valueCache.set(values.subarray(from, from + headDim) as never, to);
      }
    }
  });
  const queryStride = (heads + 2 * kvHeads) * headDim;
  const query = poisoned(dtype, tokens * queryStride);
  const queryStarts = new Int32Array(sequences.length + 1);
  sequences.forEach(([queries], b) => {
    queryStarts[b + 1] = queryStarts[b]! + queries;
    for (let i = 0; i < queries; i++) {
      const row = normals(heads * headDim, seed * 7919 + b * 131 + i).map((x) => 1.5 * x);
      query.set(encodeArray(dtype, row) as never, (queryStarts[b]! + i) * queryStride);
    }
  });
  const contextLengths = Int32Array.from(sequences, ([, context]) => context);
  const scale = shape.scale ?? 1 / Math.sqrt(headDim);
  return {
    ...shape,
    tokens,
    query,
    queryStride,
    keyCache,
    valueCache,
    queryStarts,
    contextLengths,
    blockTable,
    maxBlocks,
    scale,
  };
}

function cacheRow(table: Int32Array, tableRow: number, position: number, g: number, kvHeads: number): number {
  const block = table[tableRow + Math.floor(position / cacheBlockTokens)]!;
  return (block * kvHeads + g) * cacheBlockTokens + (position % cacheBlockTokens);
}

function shuffled(items: number[], seed: number): number[] {
  const next = random(seed);
  for (let i = items.length - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1));
    [items[i], items[j]] = [items[j]!, items[i]!];
  }
  return items;
}

/** [T, H, D] in float64, from the numbers as stored. */
export function attentionReference(batch: PagedBatch): Float64Array {
  const { sequences, heads, kvHeads, headDim, queryStride } = batch;
  const query = toNumbers(batch.dtype, batch.query);
  const keys = toNumbers(batch.dtype, batch.keyCache);
  const values = toNumbers(batch.dtype, batch.valueCache);
  const out = new Float64Array(batch.tokens * heads * headDim);
  sequences.forEach(([queries, context], b) => {
    for (let i = 0; i < queries; i++) {
      const token = batch.queryStarts[b]! + i;
      const position = context - queries + i;
      const first = batch.window ? Math.max(0, position - batch.window + 1) : 0;
      for (let h = 0; h < heads; h++) {
        const g = Math.floor(h / (heads / kvHeads));
        const rows: number[] = [];
        const scores: number[] = [];
        for (let p = first; p <= position; p++) {
          const row = cacheRow(batch.blockTable, b * batch.maxBlocks, p, g, kvHeads) * headDim;
          let dot = 0;
          for (let d = 0; d < headDim; d++) dot += query[token * queryStride + h * headDim + d]! * keys[row + d]!;
          const score = dot * batch.scale;
          rows.push(row);
          scores.push(batch.softcap ? batch.softcap * Math.tanh(score / batch.softcap) : score);
        }
        const maximum = scores.reduce((a, s) => Math.max(a, s), -Infinity);
        let sum = 0;
        const at = (token * heads + h) * headDim;
        scores.forEach((score, n) => {
          const weight = Math.exp(score - maximum);
          sum += weight;
          for (let d = 0; d < headDim; d++) out[at + d]! += weight * values[rows[n]! + d]!;
        });
        for (let d = 0; d < headDim; d++) out[at + d]! /= sum;
      }
    }
  });
  return out;
}

/** The batch that holds only sequence b, with the same numbers in the same cache. */
export function aloneOf(batch: PagedBatch, b: number): PagedBatch {
  const [queries] = batch.sequences[b]!;
  const from = batch.queryStarts[b]! * batch.queryStride;
  return {
    ...batch,
    sequences: [batch.sequences[b]!],
    tokens: queries,
    query: batch.query.slice(from, from + queries * batch.queryStride),
    queryStarts: Int32Array.of(0, queries),
    contextLengths: batch.contextLengths.slice(b, b + 1),
    blockTable: batch.blockTable.slice(b * batch.maxBlocks, (b + 1) * batch.maxBlocks),
  };
}
