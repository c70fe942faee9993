import {
  bfloat16,
  bool,
  type DType,
  type DTypeLike,
  dtype,
  float16,
  float32,
  type HostArray,
  int32,
  int64,
  uint8,
} from "../base/dtype.ts";
import { decodeArray, encodeElement } from "../base/element.ts";
import { ArgumentError, DTypeError, ShapeError } from "../base/errors.ts";
import { elementCount, formatShape, type Shape } from "../base/shape.ts";
import { checkShape } from "./layout.ts";
import { flattenNested, type Nested, type NestedInput, nest } from "./nested.ts";

/** A typed array that elements may be given in. Uint16Array holds the bits of float16 or bfloat16. */
export type TypedArray = HostArray | Float64Array;
export type HostInput = NestedInput | TypedArray | HostTensor;

/**
 * Elements in host memory with their shape and dtype: what `tensor.cpu()` gives and `Tensor.from` takes. A plain value:
 * it owns no device memory, computes nothing and need not be disposed.
 */
export class HostTensor {
  /** Row-major elements as the device stores them; 16-bit floats as their bits. */
  readonly data: HostArray;
  readonly shape: Shape;
  readonly dtype: DType;

  /** Throws ShapeError when `data` does not hold as many elements as `shape` calls for. */
  constructor(data: HostArray, shape: Shape, dtype: DType) {
    checkShape("HostTensor", shape);
    if (data.length !== elementCount(shape)) {
      throw new ShapeError(
        `HostTensor: shape ${formatShape(shape)} calls for ${elementCount(shape)} elements, but the data has ${data.length}`,
      );
    }
    this.data = data;
    this.shape = shape;
    this.dtype = dtype;
  }

  /**
   * From nested arrays or a typed array. The default dtype is that of the typed array (float32 for Float64Array), and
   * for numbers float32, for bigints int64, for booleans bool. Values are rounded to nearest even, or cut to integers.
   */
  static from(input: HostInput, options: { shape?: Shape; dtype?: DTypeLike | string } = {}): HostTensor {
    const wanted = options.dtype === undefined ? undefined : dtype(options.dtype);
    const found = read(input, wanted);
    const shape = options.shape ?? found.shape;
    checkShape("Tensor.from", shape);
    if (elementCount(shape) !== found.data.length) {
      throw new ShapeError(
        `Tensor.from: shape ${formatShape(shape)} calls for ${elementCount(shape)} elements, got ${found.data.length}`,
      );
    }
    return new HostTensor(found.data, shape, found.dtype);
  }

  get rank(): number {
    return this.shape.length;
  }

  /** The number of elements. */
  get size(): number {
    return this.data.length;
  }

  /** The elements as numbers: Float32Array for every float dtype, else the integer array of the dtype. */
  toArray(): Float32Array | Int32Array | BigInt64Array | Uint8Array {
    if (!this.dtype.isFloat) return this.data.slice() as Int32Array | BigInt64Array | Uint8Array;
    return Float32Array.from(decodeArray(this.dtype, this.data));
  }

  /** The elements as numbers in nested arrays; a plain number for rank 0. int64 beyond 2^53 loses its low bits. */
  toNested(): Nested {
    return nest(decodeArray(this.dtype, this.data), this.shape);
  }

  /** The one element. Throws ShapeError when there are more or none. */
  item(): number {
    if (this.size !== 1) {
      throw new ShapeError(`item: needs a tensor of one element, got shape ${formatShape(this.shape)}`);
    }
    return decodeArray(this.dtype, this.data)[0]!;
  }

  /** The same values in another dtype. */
  to(like: DTypeLike): HostTensor {
    const target = dtype(like);
    return target === this.dtype ? this : new HostTensor(convert(this, target), this.shape, target);
  }
}

function read(input: HostInput, wanted: DType | undefined): { data: HostArray; shape: Shape; dtype: DType } {
  if (input instanceof HostTensor) return wanted ? input.to(wanted) : input;
  if (ArrayBuffer.isView(input)) return readTyped(input, wanted);
  const { shape, values } = flattenNested("Tensor.from", input as NestedInput);
  const target = wanted ?? inferDType(input as NestedInput);
  return { data: encode(target, values), shape, dtype: target };
}

function readTyped(input: ArrayBufferView, wanted: DType | undefined): { data: HostArray; shape: Shape; dtype: DType } {
  const array = input as TypedArray;
  const shape = [array.length];
  if (array instanceof Float64Array) {
    const target = wanted ?? float32;
    return { data: encode(target, array), shape, dtype: target };
  }
  const own = dtypeOfArray(array, wanted);
  const target = wanted ?? own;
  if (own === target) return { data: array, shape, dtype: own };
  return { data: convert({ data: array, dtype: own }, target), shape, dtype: target };
}

function dtypeOfArray(array: HostArray, wanted: DType | undefined): DType {
  if (array instanceof Float32Array) return float32;
  if (array instanceof Int32Array) return int32;
  if (array instanceof BigInt64Array) return int64;
  if (array instanceof Uint8Array) return wanted === bool ? bool : uint8;
  if (array instanceof Uint16Array) {
    if (wanted === float16 || wanted === bfloat16) return wanted;
    throw new DTypeError(
      'Tensor.from: a Uint16Array holds the bits of 16-bit floats; say which with dtype: "float16" or "bfloat16"',
    );
  }
  throw new ArgumentError(
    `Tensor.from: cannot read a ${(array as object).constructor.name}; use Float32Array, Float64Array, Int32Array, BigInt64Array, Uint8Array, Uint16Array, or nested arrays`,
  );
}

function inferDType(input: NestedInput): DType {
  let first: NestedInput | undefined = input;
  while (Array.isArray(first)) first = first[0];
  return typeof first === "bigint" ? int64 : typeof first === "boolean" ? bool : float32;
}

function encode(target: DType, values: ArrayLike<number | bigint>): HostArray {
  const out = target.array(values.length) as { [index: number]: number | bigint };
  for (let i = 0; i < values.length; i++) out[i] = encodeElement(target, values[i]!);
  return out as unknown as HostArray;
}

/** An int64 keeps all its bits where the target is int64; else values pass through numbers. */
function convert(from: { data: HostArray; dtype: DType }, target: DType): HostArray {
  return encode(
    target,
    from.dtype.isFloat ? decodeArray(from.dtype, from.data) : (from.data as ArrayLike<number | bigint>),
  );
}
