import type { DType } from "../../base/dtype.ts";
import { UnsupportedError } from "../../base/errors.ts";
import type { DevicePtr } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";

export interface Strided {
  ptr: DevicePtr;
  strides: readonly number[];
  dtype: DType;
}
function missing(op: string): never {
  throw new UnsupportedError(`${op}: no kernel yet`);
}
export function launchCopy(_stream: Stream, _p: { out: Strided; src: Strided; shape: readonly number[] }): void {
  missing("copy");
}
export function launchBinary(
  _stream: Stream,
  _p: { op: string; out: Strided; a: Strided; b: Strided; shape: readonly number[]; dtype: DType },
): void {
  missing("binary");
}
export function launchScalar(
  _stream: Stream,
  _p: { op: string; out: Strided; a: Strided; value: number; shape: readonly number[]; dtype: DType },
): void {
  missing("scalar");
}
export function launchUnary(
  _stream: Stream,
  _p: { op: string; out: Strided; a: Strided; shape: readonly number[]; dtype: DType },
): void {
  missing("unary");
}
export function launchReduce(
  _stream: Stream,
  _p: { op: string; out: DevicePtr; x: DevicePtr; rows: number; cols: number; dtype: DType; outDtype: DType },
): void {
  missing("reduce");
}
export function launchRandom(
  _stream: Stream,
  _p: { out: DevicePtr; count: number; distribution: string; seed: number; dtype: DType },
): void {
  missing("random");
}
