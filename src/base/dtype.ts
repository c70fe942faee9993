import { ArgumentError } from "./errors.ts";

export type DTypeName = "float32" | "float16" | "bfloat16" | "int32" | "int64" | "uint8" | "bool";

/** A typed array that can hold elements of a dtype on the host; 16-bit floats travel as their bits. */
export type HostArray = Float32Array | Uint16Array | Int32Array | BigInt64Array | Uint8Array;

/**
 * One element type, as an interned object: compare with `===`, and ask it instead of switching on its name.
 */
export interface DType {
  /** PyTorch's name, as the public API and configs spell it. */
  readonly name: DTypeName;
  /** The suffix in kernel symbols and file names (`rms_norm_bf16`). */
  readonly short: string;
  readonly bytes: number;
  readonly isFloat: boolean;
  /** How safetensors headers spell it. */
  readonly safetensors: string;
  /** Order of promotion: the operand with the higher rank decides; the two 16-bit floats together give float32. */
  readonly rank: number;
  /** Allocates host storage for `length` elements. */
  array(length: number): HostArray;
  /** Views host bytes as elements, without a copy. `bytes.byteOffset` must be a multiple of `this.bytes`. */
  view(bytes: Uint8Array): HostArray;
}

function define(
  name: DTypeName,
  short: string,
  bytes: number,
  isFloat: boolean,
  safetensors: string,
  rank: number,
  Ctor: {
    new (length: number): HostArray;
    new (buffer: ArrayBufferLike, byteOffset: number, length: number): HostArray;
  },
): DType {
  return Object.freeze({
    name,
    short,
    bytes,
    isFloat,
    safetensors,
    rank,
    array: (length: number) => new Ctor(length),
    view: (data: Uint8Array) => new Ctor(data.buffer, data.byteOffset, data.byteLength / bytes),
  });
}

export const float32 = define("float32", "f32", 4, true, "F32", 6, Float32Array);
export const float16 = define("float16", "f16", 2, true, "F16", 5, Uint16Array);
export const bfloat16 = define("bfloat16", "bf16", 2, true, "BF16", 5, Uint16Array);
export const int64 = define("int64", "i64", 8, false, "I64", 4, BigInt64Array);
export const int32 = define("int32", "i32", 4, false, "I32", 3, Int32Array);
export const uint8 = define("uint8", "u8", 1, false, "U8", 2, Uint8Array);
export const bool = define("bool", "bool", 1, false, "BOOL", 1, Uint8Array);

const all = [float32, float16, bfloat16, int64, int32, uint8, bool] as const;
const byName = new Map<string, DType>(all.map((t) => [t.name, t]));
const bySafetensors = new Map<string, DType>(all.map((t) => [t.safetensors, t]));

/** Names that users and configs write for the same types. */
const aliases: Record<string, DTypeName> = {
  float: "float32",
  f32: "float32",
  fp32: "float32",
  half: "float16",
  f16: "float16",
  fp16: "float16",
  bf16: "bfloat16",
  i32: "int32",
  i64: "int64",
  long: "int64",
  u8: "uint8",
};

export type DTypeLike = DType | DTypeName;

/** Resolves a name (`"bfloat16"`, `"bf16"`, `"torch.bfloat16"`) or passes a dtype through. Throws ArgumentError. */
export function dtype(like: DTypeLike | string): DType {
  if (typeof like !== "string") return like;
  const name = like.startsWith("torch.") ? like.slice("torch.".length) : like;
  const found = byName.get(aliases[name] ?? name);
  if (!found) {
    throw new ArgumentError(`dtype: unknown element type "${like}"; use one of ${all.map((t) => t.name).join(", ")}`);
  }
  return found;
}

/** The dtype that a safetensors header names, or undefined for one that llcuda has no storage for (F8_E4M3, …). */
export function dtypeFromSafetensors(name: string): DType | undefined {
  return bySafetensors.get(name);
}

/** The type that an operation on both gives, as PyTorch promotes tensors of equal rank. */
export function promote(a: DType, b: DType): DType {
  if (a === b) return a;
  if (a.rank === b.rank) return float32;
  return a.rank > b.rank ? a : b;
}
