/** A number type of GGUF metadata. Arrays of it are held as one typed array, however many there are. */
export interface GgufNumberType {
  readonly name: GgufNumberTypeName;
  /** As the file writes it. */
  readonly id: number;
  readonly bytes: number;
  readonly array: NumberArrayType;
}

export type GgufNumberTypeName =
  | "uint8"
  | "int8"
  | "uint16"
  | "int16"
  | "uint32"
  | "int32"
  | "float32"
  | "uint64"
  | "int64"
  | "float64";

export type GgufNumbers =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | BigUint64Array
  | BigInt64Array
  | Float64Array;

interface NumberArrayType {
  new (length: number): GgufNumbers;
  new (buffer: ArrayBufferLike, byteOffset?: number, length?: number): GgufNumbers;
}

/** One metadata value with the type that it is written in. 64-bit integers are bigints; bools in arrays are 0 and 1. */
export type GgufValue =
  | { readonly type: "string"; readonly value: string }
  | { readonly type: "bool"; readonly value: boolean }
  | { readonly type: GgufNumberTypeName; readonly value: number | bigint }
  | { readonly type: "array"; readonly of: "string"; readonly value: readonly string[] }
  | { readonly type: "array"; readonly of: "bool"; readonly value: Uint8Array }
  | { readonly type: "array"; readonly of: GgufNumberTypeName; readonly value: GgufNumbers };

export const text = (value: string): GgufValue => ({ type: "string", value });
export const texts = (value: readonly string[]): GgufValue => ({ type: "array", of: "string", value });
export const flag = (value: boolean): GgufValue => ({ type: "bool", value });
/** A token's id, or another number that is not negative. */
export const uint32 = (value: number): GgufValue => ({ type: "uint32", value });

/** Numbers of the types that are not numbers. Source: the GGUF format description, gguf_metadata_value_type. */
export const boolTypeId = 7;
export const stringTypeId = 8;
export const arrayTypeId = 9;

function define(name: GgufNumberTypeName, id: number, bytes: number, array: NumberArrayType): GgufNumberType {
  return Object.freeze({ name, id, bytes, array });
}

const numberTypes = [
  define("uint8", 0, 1, Uint8Array),
  define("int8", 1, 1, Int8Array),
  define("uint16", 2, 2, Uint16Array),
  define("int16", 3, 2, Int16Array),
  define("uint32", 4, 4, Uint32Array),
  define("int32", 5, 4, Int32Array),
  define("float32", 6, 4, Float32Array),
  define("uint64", 10, 8, BigUint64Array),
  define("int64", 11, 8, BigInt64Array),
  define("float64", 12, 8, Float64Array),
] as const;

const byId = new Map<number, GgufNumberType>(numberTypes.map((type) => [type.id, type]));
const byName = new Map<string, GgufNumberType>(numberTypes.map((type) => [type.name, type]));

export function numberTypeById(id: number): GgufNumberType | undefined {
  return byId.get(id);
}

export function numberType(name: GgufNumberTypeName): GgufNumberType {
  return byName.get(name)!;
}
