import type { DType, DTypeName, HostArray } from "./dtype.ts";
import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16 } from "./float.ts";

/** How one dtype's elements become numbers and back; 16-bit floats lie in host arrays as their bits. */
interface Codec {
  readonly encode: (value: number) => number | bigint;
  readonly decode: (stored: number | bigint) => number;
}

const plain: Codec = { encode: (v) => v, decode: Number };
const codecs: Record<DTypeName, Codec> = {
  float32: plain,
  float16: { encode: numberToF16, decode: (s) => f16ToNumber(Number(s)) },
  bfloat16: { encode: numberToBf16, decode: (s) => bf16ToNumber(Number(s)) },
  int32: { encode: Math.trunc, decode: Number },
  int64: { encode: (v) => BigInt(Math.trunc(v)), decode: Number },
  uint8: { encode: Math.trunc, decode: Number },
  bool: { encode: (v) => (v === 0 ? 0 : 1), decode: Number },
};

/**
 * What a host array of `dtype` stores for `value`: rounded to nearest even for floats, towards zero for integers
 * (int64 as a bigint), 0 or 1 for bool.
 */
export function encodeElement(dtype: DType, value: number | bigint): number | bigint {
  if (typeof value === "bigint") return dtype.name === "int64" ? value : codecs[dtype.name].encode(Number(value));
  return codecs[dtype.name].encode(value);
}

/** The number that a stored element stands for; an int64 beyond 2^53 loses its low bits. */
export function decodeElement(dtype: DType, stored: number | bigint): number {
  return codecs[dtype.name].decode(stored);
}

/** A host array with the elements that `values` round to. */
export function encodeArray(dtype: DType, values: ArrayLike<number>): HostArray {
  const { encode } = codecs[dtype.name];
  const out = dtype.array(values.length) as { [index: number]: number | bigint };
  for (let i = 0; i < values.length; i++) out[i] = encode(values[i]!);
  return out as unknown as HostArray;
}

/** The numbers that a host array's elements stand for. */
export function decodeArray(dtype: DType, stored: HostArray): Float64Array {
  const { decode } = codecs[dtype.name];
  const out = new Float64Array(stored.length);
  for (let i = 0; i < stored.length; i++) out[i] = decode(stored[i]!);
  return out;
}

/** The nearest number that `dtype`, a float, can hold. */
export function roundTo(dtype: DType, value: number): number {
  return decodeArray(dtype, encodeArray(dtype, [value]))[0]!;
}
