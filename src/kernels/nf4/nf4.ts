import { bfloat16, type DType, float16, float32 } from "../../base/dtype.ts";
import type { FourBitType } from "../../base/four-bit.ts";
import { type DevicePtr, nullPtr } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { floatDTypes, floatVariant } from "../float-variant.ts";
import { gridStrideBlocks } from "../grid.ts";
import { launch } from "../library.ts";
import { defineKernel } from "../spec.ts";
import { nestedBlockSize } from "./levels.ts";

/** CODE4_PARAMETERS of code4.cuh. */
export const code4Args = {
  absmax: "ptr",
  code: "ptr",
  nestedAbsmax: "ptr",
  nestedCode: "ptr",
  nestedOffset: "f32",
  blockShift: "i32",
} as const;

export const code4QuantizeKernel = defineKernel({
  family: "code4_quantize",
  source: "nf4/code4-quantize.cu",
  args: { packed: "ptr", absmax: "ptr", x: "ptr", count: "i64", shift: "i32", fp4: "i32" },
  axes: { dtype: floatDTypes },
  targets: ["sm_60"],
});

export const code4DequantizeKernel = defineKernel({
  family: "code4_dequantize",
  source: "nf4/code4-dequantize.cu",
  args: { out: "ptr", packed: "ptr", ...code4Args, count: "i64", through: "i32" },
  axes: { dtype: floatDTypes },
  targets: ({ dtype }) => (dtype === "bf16" ? ["sm_60", "sm_80"] : ["sm_60"]),
});

export const absmaxMeanKernel = defineKernel({
  family: "absmax_mean",
  source: "nf4/absmax-mean.cu",
  args: { mean: "ptr", absmax: "ptr", count: "i64" },
  axes: {},
  targets: ["sm_60"],
});

export const absmaxNestKernel = defineKernel({
  family: "absmax_nest",
  source: "nf4/absmax-nest.cu",
  args: { bytes: "ptr", nestedAbsmax: "ptr", absmax: "ptr", offset: "ptr", code: "ptr", count: "i64" },
  axes: {},
  targets: ["sm_60"],
});

export const absmaxExpandKernel = defineKernel({
  family: "absmax_expand",
  source: "nf4/absmax-expand.cu",
  args: { out: "ptr", bytes: "ptr", nestedAbsmax: "ptr", nestedCode: "ptr", nestedOffset: "f32", count: "i64" },
  axes: {},
  targets: ["sm_60"],
});

/** Absmax that is itself quantized: 8-bit codes in blocks of 256. */
export interface NestedAbsmax {
  /** f32 [ceil(blocks / 256)]. */
  readonly absmax: DevicePtr;
  /** f32 [256], ascending. */
  readonly code: DevicePtr;
  /** Added to what the code and its absmax give. */
  readonly offset: number;
}

/** A matrix in 4-bit codes, in device memory; see code4.cuh. */
export interface Code4Data {
  /** Two codes a byte, the first in the upper four bits; on 16 bytes. */
  readonly packed: DevicePtr;
  /** One a block of the flattened matrix: f32, or u8 when nested. */
  readonly absmax: DevicePtr;
  /** f32 [16]. */
  readonly code: DevicePtr;
  /** A power of two from 32 to 4096. */
  readonly blockSize: number;
  readonly nested?: NestedAbsmax;
  /**
   * float16 or bfloat16: what bitsandbytes dequantizes this weight to, whatever it is multiplied with. Where the type of a
   * product is finer, values are rounded to this one first (see roundedFirst).
   */
  readonly valueDType?: DType;
}

/**
 * What the weight's values are rounded to before they become `dtype`, where that makes a difference: in float32, and a
 * bfloat16 weight's in float16.
 */
export function roundedFirst({ valueDType }: Code4Data, dtype: DType): DType | undefined {
  const finer = dtype === float32 || (dtype === float16 && valueDType === bfloat16);
  return finer && valueDType !== dtype ? valueDType : undefined;
}

/** The arguments behind CODE4_PARAMETERS. */
export function code4ArgumentsOf(data: Code4Data) {
  return {
    absmax: data.absmax,
    code: data.code,
    nestedAbsmax: data.nested?.absmax ?? nullPtr,
    nestedCode: data.nested?.code ?? nullPtr,
    nestedOffset: data.nested?.offset ?? 0,
    blockShift: Math.log2(data.blockSize),
  };
}

/**
 * Packs `count` values into 4-bit codes with one float32 absmax a block, as bitsandbytes does, bit for bit.
 * x: `dtype` [count]; packed: [ceil(count / 2)] bytes; absmax: f32 [ceil(count / blockSize)].
 */
export function quantizeCode4(
  stream: Stream,
  p: {
    packed: DevicePtr;
    absmax: DevicePtr;
    x: DevicePtr;
    count: number;
    blockSize: number;
    dtype: DType;
    type: FourBitType;
  },
): void {
  if (p.count === 0) return;
  const warps = Math.ceil(p.count / Math.max(256, p.blockSize));
  launch(
    stream,
    code4QuantizeKernel,
    floatVariant("quantizeNf4", p.dtype),
    { grid: [gridStrideBlocks(stream.device, warps * 32, 256)], block: 256 },
    {
      packed: p.packed,
      absmax: p.absmax,
      x: p.x,
      count: BigInt(p.count),
      shift: Math.log2(p.blockSize),
      fp4: p.type === "fp4" ? 1 : 0,
    },
  );
}

/** `Through` of code4-dequantize.cu. */
const throughTypes = { none: 0, f16: 1, bf16: 2 } as const;

/** out[i] = level · absmax, float32 rounded to `dtype`, before that to what roundedFirst says. out: [count], on 32 bytes. */
export function dequantizeCode4(
  stream: Stream,
  data: Code4Data,
  p: { out: DevicePtr; count: number; dtype: DType },
): void {
  if (p.count === 0) return;
  const first = roundedFirst(data, p.dtype);
  const through = first ? (first === bfloat16 ? throughTypes.bf16 : throughTypes.f16) : throughTypes.none;
  // A thread takes 32 values a round.
  const blocks = gridStrideBlocks(stream.device, Math.ceil(p.count / 32), 256);
  launch(
    stream,
    code4DequantizeKernel,
    floatVariant("dequantizeNf4", p.dtype),
    { grid: [blocks], block: 256 },
    { out: p.out, packed: data.packed, ...code4ArgumentsOf(data), count: BigInt(p.count), through },
  );
}

/**
 * Double quantization: absmax f32 [count] into 8-bit codes. offset f32 [1] receives the mean that is subtracted first,
 * nestedAbsmax f32 [ceil(count / 256)] the largest magnitudes, bytes u8 [count] the codes. code: dynamicCode(), f32 [256].
 */
export function nestAbsmax(
  stream: Stream,
  p: {
    bytes: DevicePtr;
    nestedAbsmax: DevicePtr;
    offset: DevicePtr;
    absmax: DevicePtr;
    code: DevicePtr;
    count: number;
  },
): void {
  if (p.count === 0) return;
  const count = BigInt(p.count);
  launch(stream, absmaxMeanKernel, {}, { grid: [1], block: 1024 }, { mean: p.offset, absmax: p.absmax, count });
  launch(
    stream,
    absmaxNestKernel,
    {},
    { grid: [Math.ceil(p.count / nestedBlockSize)], block: 256 },
    {
      bytes: p.bytes,
      nestedAbsmax: p.nestedAbsmax,
      absmax: p.absmax,
      offset: p.offset,
      code: p.code,
      count,
    },
  );
}

/** Nested absmax as float32 [count]. */
export function expandAbsmax(
  stream: Stream,
  p: { out: DevicePtr; bytes: DevicePtr; nested: NestedAbsmax; count: number },
): void {
  if (p.count === 0) return;
  launch(
    stream,
    absmaxExpandKernel,
    {},
    { grid: [gridStrideBlocks(stream.device, p.count, 256)], block: 256 },
    {
      out: p.out,
      bytes: p.bytes,
      nestedAbsmax: p.nested.absmax,
      nestedCode: p.nested.code,
      nestedOffset: p.nested.offset,
      count: BigInt(p.count),
    },
  );
}
