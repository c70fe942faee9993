import { bfloat16, type DType, float32 } from "../../base/dtype.ts";
import type { DevicePtr } from "../../driver/api.ts";
import type { Device } from "../../driver/device.ts";
import type { Stream } from "../../driver/stream.ts";
import { type GateActivation, gateKinds } from "../activation/activation.ts";
import { floatDTypes, floatTargets, floatVariant } from "../float-variant.ts";
import { deviceTargets, launch } from "../library.ts";
import { defineKernel } from "../spec.ts";
import { targetNumber } from "../target.ts";
import { leastRows, shrinkRankBlocks, shrinkShared, tilesAtOnce, tilesSplit, windows } from "./tiles.ts";

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
  args: { h: "ptr", x: "ptr", ...common, split: "i32" },
  // Of a block.
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
  args: { y: "ptr", h: "ptr", ...common, split: "i32" },
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
  args: { out: "ptr", z: "ptr", h: "ptr", ...common, split: "i32", kind: "i32" },
  axes: { dtype: ["f16", "bf16"] },
  targets: ["sm_80", "sm_90"],
});

/** Sums up to which each gets a block of its own: what a large GPU runs at once. */
const fewSums = 512;
/** Rows of which a block of the kernels without tensor cores has one; of more, several: A and B once for four of a run. */
const decodeRows = 64;
const shrinkThreads = 256;
const columnThreads = 128;

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

/** What the first half leaves for the second. */
export interface LoraSums {
  /** float32 [split, T, parts, maxRank]. */
  readonly h: DevicePtr;
  /** Parts of K, which the second half adds up: of `loraSplit`. */
  readonly split: number;
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

/** The first half's input. */
interface LoraInput extends LoraRows {
  /** [T, K], contiguous. */
  readonly x: DevicePtr;
  /** K. */
  readonly cols: number;
}

/**
 * In how many parts of K `loraShrink` is to leave its sums: more than one where the product has too few tiles to keep a GPU
 * busy. The bits of the result do not depend on it.
 */
export function loraSplit(device: Device, p: LoraInput): number {
  return shrinksOnTensorCores(device, p) ? tilesSplit(p, device.attributes.multiprocessors) : 1;
}

/** h[t, part, r] = Σₖ x[t, k] · A[r, k] for rows with an adapter; other elements of h stay as they are. */
export function loraShrink(stream: Stream, p: LoraInput & LoraSums): void {
  if (p.rows === 0 || p.maxRank === 0) return;
  if (shrinksOnTensorCores(stream.device, p)) {
    launch(
      stream,
      loraShrinkMmaKernel,
      { dtype: short16(p.dtype) },
      {
        grid: [shrinkRankBlocks(p.maxRank) * p.split, windows(p.rows) * p.parts, tilesAtOnce(p.rows)],
        block: shrinkThreads,
        sharedBytes: shrinkShared,
      },
      { h: p.h, x: p.x, ...rowArguments(p), cols: p.cols, split: p.split },
      { overlap: true },
    );
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

function shrinksOnTensorCores(device: Device, p: LoraInput): boolean {
  return usesTensorCores(device, p) && p.cols % 32 === 0 && (p.x & 15n) === 0n;
}

function usesTensorCores(device: Device, { rows, dtype }: Pick<LoraRows, "rows" | "dtype">): boolean {
  return rows >= leastRows && dtype !== float32 && targetNumber(deviceTargets(device)[0]!) >= 80;
}

function short16(dtype: DType): "f16" | "bf16" {
  return dtype === bfloat16 ? "bf16" : "f16";
}

/** y[t, n] += scale · Σᵣ h[t, part of n, r] · B[n, r], float32 inside, rounded once. */
export function loraExpand(
  stream: Stream,
  p: LoraRows &
    LoraSums & {
      /** [T, N], contiguous. */
      readonly y: DevicePtr;
      /** N. */
      readonly cols: number;
    },
): void {
  if (p.rows === 0 || p.cols === 0) return;
  if (usesTensorCores(stream.device, p)) {
    const args = { y: p.y, h: p.h, ...rowArguments(p), cols: p.cols, split: p.split };
    launch(stream, loraExpandMmaKernel, { dtype: short16(p.dtype) }, columnTiles(p), args, { overlap: true });
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
  p: LoraRows &
    LoraSums & {
      /** [T, F], contiguous. */
      readonly out: DevicePtr;
      /** float32 [T, 2F], contiguous: gate | up. */
      readonly z: DevicePtr;
      /** F. */
      readonly cols: number;
      readonly activation: GateActivation;
    },
): void {
  if (p.rows === 0 || p.cols === 0) return;
  if (usesTensorCores(stream.device, p)) {
    const args = { out: p.out, z: p.z, h: p.h, ...rowArguments(p), cols: p.cols, split: p.split };
    const kind = gateKinds[p.activation];
    launch(
      stream,
      loraGateMmaKernel,
      { dtype: short16(p.dtype) },
      columnTiles(p),
      { ...args, kind },
      { overlap: true },
    );
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

/** The grid of the second half's tensor-core kernels: each block has 128 columns. */
function columnTiles({ cols, rows }: { readonly cols: number; readonly rows: number }) {
  return {
    grid: [Math.ceil(cols / columnThreads), windows(rows), tilesAtOnce(rows)],
    block: columnThreads,
  } as const;
}

/** Rows of a block of columns. A row's bits do not depend on it. Grids of 65535 blocks in y cover any pass. */
function tileOf({ rows }: LoraRows): number {
  return rows <= decodeRows ? 1 : 16;
}

function rowArguments({ table, slots, rows, parts, maxRank }: LoraRows) {
  return { table, slots, rows, parts, maxRank };
}
