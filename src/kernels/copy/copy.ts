import type { DType } from "../../base/dtype.ts";
import { elementCount, type Shape } from "../../base/shape.ts";
import type { DevicePtr } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { dtypeCode } from "../dtype-code.ts";
import { gridStrideBlocks } from "../grid.ts";
import { checkRank, coalesce, isFlat } from "../layout.ts";
import { launch } from "../library.ts";
import { defineKernel } from "../spec.ts";
import { chooseCopy } from "./choice.ts";

export const copyStridedKernel = defineKernel({
  family: "copy_strided",
  source: "copy/copy-strided.cu",
  args: { out: "ptr", x: "ptr", count: "i64", rank: "i32", shape: "dims", outStrides: "dims", xStrides: "dims" },
  axes: { bytes: ["1", "2", "4", "8", "16"] },
  targets: ["sm_60"],
});

export const copyTiledKernel = defineKernel({
  family: "copy_tiled",
  source: "copy/copy-tiled.cu",
  args: {
    out: "ptr",
    x: "ptr",
    rows: "i64",
    cols: "i64",
    outRow: "i64",
    xCol: "i64",
    batches: "i64",
    rank: "i32",
    shape: "dims",
    outStrides: "dims",
    xStrides: "dims",
  },
  axes: { bytes: ["1", "2", "4", "8"] },
  targets: ["sm_60"],
});

export const castKernel = defineKernel({
  family: "cast",
  source: "copy/cast.cu",
  args: {
    out: "ptr",
    x: "ptr",
    outDType: "i32",
    xDType: "i32",
    count: "i64",
    flat: "i32",
    rank: "i32",
    shape: "dims",
    outStrides: "dims",
    xStrides: "dims",
  },
  axes: {},
  targets: ["sm_60", "sm_80"],
});

export interface CopyArgs {
  readonly out: DevicePtr;
  readonly outDType: DType;
  /** In elements, one per dimension of `shape`. */
  readonly outStrides: readonly number[];
  readonly x: DevicePtr;
  readonly dtype: DType;
  /** In elements; 0 repeats. */
  readonly strides: readonly number[];
  readonly shape: Shape;
}

/**
 * out[i…] = x[i…] for every index of `shape`, converting between types as PyTorch's `copy_` does (see common/dtype.cuh).
 * The two views must not overlap, unless they are the same memory in the same order. Up to eight dimensions after
 * merging. Throws UnsupportedError for more.
 */
export function copy(stream: Stream, p: CopyArgs): void {
  const count = elementCount(p.shape);
  if (count === 0) return;
  if (p.dtype === p.outDType) {
    move(stream, p, count);
    return;
  }
  const layout = coalesce(p.shape, [p.outStrides, p.strides]);
  checkRank("copy", layout);
  const flat = isFlat(layout);
  launch(
    stream,
    castKernel,
    {},
    { grid: [gridStrideBlocks(stream.device, flat ? Math.ceil(count / 4) : count, 256)], block: 256 },
    {
      out: p.out,
      x: p.x,
      outDType: dtypeCode(p.outDType),
      xDType: dtypeCode(p.dtype),
      count: BigInt(count),
      flat: flat ? 1 : 0,
      rank: layout.shape.length,
      shape: layout.shape,
      outStrides: layout.strides[0]!,
      xStrides: layout.strides[1]!,
    },
  );
}

/** out[0 … count) = x[0 … count), converted. */
export function cast(
  stream: Stream,
  p: { out: DevicePtr; outDType: DType; x: DevicePtr; dtype: DType; count: number },
): void {
  copy(stream, { ...p, shape: [p.count], strides: [1], outStrides: [1] });
}

function move(stream: Stream, p: CopyArgs, count: number): void {
  const choice = chooseCopy(p.shape, p.outStrides, p.strides, p.dtype.bytes, p.out, p.x);
  if (choice.kind === "flat") {
    stream.copyOnDevice(p.out, p.x, count * p.dtype.bytes);
    return;
  }
  const { shape, strides } = choice.layout;
  const views = { rank: shape.length, shape, outStrides: strides[0]!, xStrides: strides[1]! };
  if (choice.kind === "strided") {
    const units = elementCount(shape);
    launch(
      stream,
      copyStridedKernel,
      { bytes: choice.bytes },
      { grid: [gridStrideBlocks(stream.device, units, 256)], block: 256 },
      { out: p.out, x: p.x, count: BigInt(units), ...views },
    );
    return;
  }
  const batches = elementCount(shape);
  const tiles = Math.ceil(choice.rows / choice.tile) * Math.ceil(choice.cols / choice.tile) * batches;
  launch(
    stream,
    copyTiledKernel,
    { bytes: choice.bytes },
    { grid: [Math.min(tiles, stream.device.attributes.multiprocessors * 64)], block: [32, 8] },
    {
      out: p.out,
      x: p.x,
      rows: BigInt(choice.rows),
      cols: BigInt(choice.cols),
      outRow: BigInt(choice.outRow),
      xCol: BigInt(choice.xCol),
      batches: BigInt(batches),
      ...views,
    },
  );
}
