import type { DType } from "../../base/dtype.ts";
import { encodeElement } from "../../base/element.ts";
import type { DevicePtr } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { gridStrideBlocks } from "../grid.ts";
import { launch } from "../library.ts";
import { defineKernel } from "../spec.ts";

export const fillKernel = defineKernel({
  family: "fill",
  source: "fill/fill.cu",
  args: { out: "ptr", pattern: "u64", bytes: "i64" },
  axes: {},
  targets: ["sm_60"],
});

export interface FillArgs {
  readonly out: DevicePtr;
  /** Rounded to the dtype as a cast would: nearest even for floats, towards zero for integers, non-zero is true. */
  readonly value: number | bigint;
  readonly count: number;
  readonly dtype: DType;
}

/** out[0 … count) = value. */
export function fill(stream: Stream, p: FillArgs): void {
  if (p.count === 0) return;
  const bytes = p.count * p.dtype.bytes;
  launch(
    stream,
    fillKernel,
    {},
    { grid: [gridStrideBlocks(stream.device, Math.ceil(bytes / 16), 256)], block: 256 },
    { out: p.out, pattern: repeatedBits(p.dtype, p.value), bytes: BigInt(bytes) },
  );
}

/** The element's bits, repeated to eight bytes. */
export function repeatedBits(dtype: DType, value: number | bigint): bigint {
  const array = dtype.array(8 / dtype.bytes) as { [index: number]: number | bigint; buffer: ArrayBufferLike };
  for (let i = 0; i < 8 / dtype.bytes; i++) array[i] = encodeElement(dtype, value);
  return new BigUint64Array(array.buffer)[0]!;
}
