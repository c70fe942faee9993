import type { DType } from "../../base/dtype.ts";
import { decodeElement, encodeElement } from "../../base/element.ts";
import { DTypeError } from "../../base/errors.ts";
import type { DevicePtr } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { gridStrideBlocks } from "../grid.ts";
import { launch } from "../library.ts";
import { defineKernel } from "../spec.ts";

const floatTypes = ["f32", "f16", "bf16"] as const;

export const randomKernel = defineKernel({
  family: "random",
  source: "random/random.cu",
  args: { out: "ptr", count: "i64", seed: "u64", offset: "u64", normal: "i32", a: "f32", b: "f32", below: "f32" },
  axes: { dtype: floatTypes },
  targets: ({ dtype }) => (dtype === "bf16" ? ["sm_60", "sm_80"] : ["sm_60"]),
});

export interface RandomArgs {
  readonly out: DevicePtr;
  readonly count: number;
  readonly dtype: DType;
  /** Taken modulo 2^64. */
  readonly seed: bigint;
  /**
   * Where in the seed's sequence to start, in groups of four elements: a call uses ceil(count / 4) groups, and the next
   * call continues after them. Taken modulo 2^64.
   */
  readonly offset: bigint;
}

/** out[i] uniform in [low, high), also after rounding to the dtype. Floating types; throws DTypeError. */
export function uniform(stream: Stream, p: RandomArgs & { readonly low: number; readonly high: number }): void {
  generate(stream, p, 0, p.low, p.high, Math.max(p.low, largestBelow(p.dtype, p.high)));
}

/** out[i] normal with `mean` and standard deviation `std`. Floating types; throws DTypeError. */
export function normal(stream: Stream, p: RandomArgs & { readonly mean: number; readonly std: number }): void {
  generate(stream, p, 1, p.mean, p.std, 0);
}

/** The largest number of a floating type that is smaller than `value`. */
export function largestBelow(dtype: DType, value: number): number {
  const stored = dtype.array(1) as { [index: number]: number | bigint; buffer: ArrayBufferLike };
  stored[0] = encodeElement(dtype, value);
  const read = (): number => decodeElement(dtype, stored[0]!);
  if (read() < value) return read();
  // One step down: floats are ordered as their bits are, in reverse below zero.
  const bits = dtype.bytes === 4 ? new Int32Array(stored.buffer) : new Int16Array(stored.buffer);
  if (read() === 0) bits[0] = 1 - 2 ** (dtype.bytes * 8 - 1);
  else bits[0] = bits[0]! + (read() > 0 ? -1 : 1);
  return read();
}

function generate(stream: Stream, p: RandomArgs, isNormal: number, a: number, b: number, below: number): void {
  const dtype = floatTypes.find((t) => t === p.dtype.short);
  if (!dtype) throw new DTypeError(`random: no kernel for ${p.dtype.name}; make a floating type and cast it`);
  if (p.count === 0) return;
  launch(
    stream,
    randomKernel,
    { dtype },
    { grid: [gridStrideBlocks(stream.device, Math.ceil(p.count / 4), 256)], block: 256 },
    { out: p.out, count: BigInt(p.count), seed: p.seed, offset: p.offset, normal: isNormal, a, b, below },
  );
}
