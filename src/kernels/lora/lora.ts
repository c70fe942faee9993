import { bfloat16, type DType, float32 } from "../../base/dtype.ts";
import type { DevicePtr } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { type GateActivation, gateKinds } from "../activation/activation.ts";
import { floatDTypes, floatTargets, floatVariant } from "../float-variant.ts";
import { deviceTargets, launch } from "../library.ts";
import { defineKernel } from "../spec.ts";
import { targetNumber } from "../target.ts";

const common = {
  table: "ptr",
  slots: "ptr",
  rows: "i32",
  cols: "i32",
  parts: "i32",
  maxRank: "i32",
} as const;

export const loraShrinkKernel = defineKernel({
  family: "lora_shrink",
  source: "lora/lora-shrink.cu",
  args: { h: "ptr", x: "ptr", ...common, wide: "i32" },
  // Of a block.
  axes: { dtype: floatDTypes, ranks: ["1", "4"], rows: ["1", "4"] },
  prune: ({ ranks, rows }) => (ranks === "1" && rows === "4" ? "would share A, but not x" : undefined),
  targets: floatTargets,
});

export const loraShrinkMmaKernel = defineKernel({
  family: "lora_shrink_mma",
  source: "lora/lora-shrink-mma.cu",
  args: { h: "ptr", x: "ptr", ...common },
  axes: { dtype: ["f16", "bf16"] },
  targets: ["sm_80", "sm_90"],
});

export const loraExpandKernel = defineKernel({
  family: "lora_expand",
  source: "lora/lora-expand.cu",
  args: { y: "ptr", h: "ptr", ...common, tile: "i32" },
  axes: { dtype: floatDTypes },
  targets: floatTargets,
});

export const loraExpandMmaKernel = defineKernel({
  family: "lora_expand_mma",
  source: "lora/lora-expand-mma.cu",
  args: { y: "ptr", h: "ptr", ...common },
  axes: { dtype: ["f16", "bf16"] },
  targets: ["sm_80", "sm_90"],
});

export const loraGateKernel = defineKernel({
  family: "lora_gate",
  source: "lora/lora-gate.cu",
  args: { out: "ptr", z: "ptr", h: "ptr", ...common, tile: "i32", kind: "i32" },
  axes: { dtype: floatDTypes },
  targets: floatTargets,
});

export const loraGateMmaKernel = defineKernel({
  family: "lora_gate_mma",
  source: "lora/lora-gate-mma.cu",
  args: { out: "ptr", z: "ptr", h: "ptr", ...common, kind: "i32" },
  axes: { dtype: ["f16", "bf16"] },
  targets: ["sm_80", "sm_90"],
});

/** Sums up to which each gets a block of its own: what a large GPU runs at once. */
const fewSums = 512;
/**
 * Rows of decode steps, which may all have different adapters: a block has one of them. More rows are prompts, whose rows with
 * one adapter come in runs: a block has several, and reads A and B once for four of a run.
 */
const decodeRows = 64;
const shrinkThreads = 256;
const columnThreads = 128;
/** What blocks of the tensor-core kernels have: of rows, of ranks in lora_shrink_mma, of columns in the others. */
const mma = {
  rows: 16,
  shrinkThreads: 512,
  ranks: 32,
  columnThreads: 128,
  expandColumns: 256,
  gateColumns: 128,
} as const;

/** The rows of a batch, and where their adapters lie for one projection. */
export interface LoraRows {
  /** Entries of 32 bytes [slots, parts]; see `loraEntry`. */
  readonly table: DevicePtr;
  /** i32 [T]: a slot of the table, or -1. */
  readonly slots: DevicePtr;
  readonly rows: number;
  readonly parts: number;
  /** At least the rank of every entry. */
  readonly maxRank: number;
  readonly dtype: DType;
}

/** One part of a stacked weight under one adapter. */
export interface LoraEntry {
  /** [rank, K]. */
  readonly a: DevicePtr;
  /** [width, rank]. */
  readonly b: DevicePtr;
  readonly rank: number;
  readonly scale: number;
  /** Columns of y that are the part's. */
  readonly begin: number;
  readonly width: number;
}

/** 64-bit words of an entry. */
export const loraEntryWords = 4;

/** An entry as kernels read it (struct LoraEntry of lora.cuh); all zeros for an adapter that leaves the part alone. */
export function loraEntry(e: LoraEntry | undefined): BigInt64Array {
  const words = new BigInt64Array(loraEntryWords);
  if (!e) return words;
  const view = new DataView(words.buffer);
  view.setBigUint64(0, e.a, true);
  view.setBigUint64(8, e.b, true);
  view.setInt32(16, e.rank, true);
  view.setFloat32(20, e.scale, true);
  view.setInt32(24, e.begin, true);
  view.setInt32(28, e.width, true);
  return words;
}

/** h[t, part, r] = Σₖ x[t, k] · A[r, k] for rows with an adapter; other elements of h stay as they are. */
export function loraShrink(
  stream: Stream,
  p: LoraRows & {
    /** float32 [T, parts, maxRank]. */
    readonly h: DevicePtr;
    /** [T, K], contiguous. */
    readonly x: DevicePtr;
    /** K. */
    readonly cols: number;
  },
): void {
  if (p.rows === 0 || p.maxRank === 0) return;
  const half = mmaVariant(stream, p);
  if (half && p.cols % 32 === 0 && (p.x & 15n) === 0n) {
    const blocks = Math.ceil(p.maxRank / mma.ranks) * Math.ceil(p.rows / mma.rows);
    const shape = { grid: [blocks, p.parts], block: mma.shrinkThreads } as const;
    const args = { h: p.h, x: p.x, ...rowArguments(p), cols: p.cols };
    launch(stream, loraShrinkMmaKernel, half, shape, args, { overlap: true });
    return;
  }
  const wide = (p.cols * p.dtype.bytes) % 16 === 0 && (p.x & 15n) === 0n;
  const ranks = wide && p.rows * p.parts * p.maxRank > fewSums ? 4 : 1;
  const rows = ranks > 1 && p.rows > decodeRows ? 4 : 1;
  launch(
    stream,
    loraShrinkKernel,
    { ...floatVariant("loraShrink", p.dtype), ranks: `${ranks}`, rows: `${rows}` },
    { grid: [Math.ceil(p.maxRank / ranks) * Math.ceil(p.rows / rows), p.parts], block: shrinkThreads },
    { h: p.h, x: p.x, ...rowArguments(p), cols: p.cols, wide: wide ? 1 : 0 },
    { overlap: true },
  );
}

/** The variant of the tensor-core kernels, for prompts and where there are any. */
function mmaVariant(stream: Stream, { rows, dtype }: LoraRows): { readonly dtype: "f16" | "bf16" } | undefined {
  if (rows <= decodeRows || dtype === float32 || targetNumber(deviceTargets(stream.device)[0]!) < 80) return undefined;
  return { dtype: dtype === bfloat16 ? "bf16" : "f16" };
}

/** y[t, n] += scale · Σᵣ h[t, part of n, r] · B[n, r], float32 inside, rounded once. */
export function loraExpand(
  stream: Stream,
  p: LoraRows & {
    /** [T, N], contiguous. */
    readonly y: DevicePtr;
    /** float32 [T, parts, maxRank]. */
    readonly h: DevicePtr;
    /** N. */
    readonly cols: number;
  },
): void {
  if (p.rows === 0 || p.cols === 0) return;
  const half = mmaVariant(stream, p);
  if (half) {
    const grid = [Math.ceil(p.cols / mma.expandColumns), Math.ceil(p.rows / mma.rows)] as const;
    const args = { y: p.y, h: p.h, ...rowArguments(p), cols: p.cols };
    launch(stream, loraExpandMmaKernel, half, { grid, block: columnThreads }, args, { overlap: true });
    return;
  }
  const tile = tileOf(p);
  launch(
    stream,
    loraExpandKernel,
    floatVariant("loraExpand", p.dtype),
    { grid: [Math.ceil(p.cols / columnThreads), Math.ceil(p.rows / tile)], block: columnThreads },
    { y: p.y, h: p.h, ...rowArguments(p), cols: p.cols, tile },
    { overlap: true },
  );
}

/** out[t, f] = act(z[t, f] + d[t, f]) · (z[t, F + f] + d[t, F + f]) with the d that `loraExpand` adds; rounded once. */
export function loraGate(
  stream: Stream,
  p: LoraRows & {
    /** [T, F], contiguous. */
    readonly out: DevicePtr;
    /** float32 [T, 2F], contiguous: gate | up. */
    readonly z: DevicePtr;
    /** float32 [T, parts, maxRank]. */
    readonly h: DevicePtr;
    /** F. */
    readonly cols: number;
    readonly activation: GateActivation;
  },
): void {
  if (p.rows === 0 || p.cols === 0) return;
  const half = mmaVariant(stream, p);
  if (half) {
    const grid = [Math.ceil(p.cols / mma.gateColumns), Math.ceil(p.rows / mma.rows)] as const;
    const args = { out: p.out, z: p.z, h: p.h, ...rowArguments(p), cols: p.cols, kind: gateKinds[p.activation] };
    launch(stream, loraGateMmaKernel, half, { grid, block: columnThreads }, args, { overlap: true });
    return;
  }
  const tile = tileOf(p);
  launch(
    stream,
    loraGateKernel,
    floatVariant("loraGate", p.dtype),
    { grid: [Math.ceil(p.cols / columnThreads), Math.ceil(p.rows / tile)], block: columnThreads },
    { out: p.out, z: p.z, h: p.h, ...rowArguments(p), cols: p.cols, tile, kind: gateKinds[p.activation] },
    { overlap: true },
  );
}

/** Rows of a block of columns. A row's bits do not depend on it. Grids of 65535 blocks in y cover any pass. */
function tileOf({ rows }: LoraRows): number {
  return rows <= decodeRows ? 1 : 16;
}

function rowArguments({ table, slots, rows, parts, maxRank }: LoraRows) {
  return { table, slots, rows, parts, maxRank };
}
