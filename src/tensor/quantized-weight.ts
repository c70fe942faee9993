import { type DType, type DTypeLike, dtype as dtypeOf, float32, uint8 } from "../base/dtype.ts";
import { ArgumentError, DTypeError, ShapeError } from "../base/errors.ts";
import { type FourBitType, fourBitLevels } from "../base/four-bit.ts";
import { type GgmlType, ggmlBytes } from "../base/ggml.ts";
import { elementCount, formatShape } from "../base/shape.ts";
import type { Device } from "../driver/device.ts";
import { dequantizeGgml, ggmlFormat } from "../kernels/ggml/ggml.ts";
import { code4BlockSizes, dynamicCode, nestedBlockSize } from "../kernels/nf4/levels.ts";
import { nestAbsmax, quantizeCode4 } from "../kernels/nf4/nf4.ts";
import { levelScales } from "../kernels/quant-matmul/level-scale.ts";
import type { QuantData } from "../kernels/quant-matmul/params.ts";
import { dequantizeWeight } from "../kernels/quant-matmul/quant-matmul.ts";
import { Tensor } from "./tensor.ts";

/** Absmax under double quantization: absmax = code[byte] · nested absmax + offset. */
export interface NestedAbsmaxTensors {
  /** float32 [ceil(blocks / 256)]. */
  readonly absmax: Tensor;
  /** float32 [256]. */
  readonly code: Tensor;
  readonly offset: number;
}

/** The parts of a matrix in 4-bit codes, as bitsandbytes stores them. */
export interface FourBitParts {
  readonly type: FourBitType;
  /** uint8 [ceil(elements / 2)], the first of two codes in the upper bits. */
  readonly packed: Tensor;
  /** One a block: float32, or uint8 with `nested`. */
  readonly absmax: Tensor;
  readonly blockSize: number;
  readonly nested?: NestedAbsmaxTensors | undefined;
  /** What the matrix was, and what bitsandbytes dequantizes it to: products in a finer type round values to it. */
  readonly valueDType?: DType | undefined;
}

export interface QuantizeOptions {
  readonly type?: FourBitType;
  /** Elements that share an absmax: a power of two from 32 to 4096; default 64. */
  readonly blockSize?: number;
  /** Stores absmax in 8 bits too (bitsandbytes' double quantization); default false. */
  readonly nested?: boolean;
}

/**
 * A matrix [N, K] that stays in device memory as a file stores it: in 4-bit codes (NF4, FP4) or in a GGML type's blocks.
 * Owns its tensors. Layers multiply with it (`QuantizedLinear`), `dequantize` gives its values.
 */
export class QuantizedWeight implements Disposable {
  /** [N, K]. */
  readonly shape: readonly [number, number];
  /** `nf4`, `fp4`, or ggml's name: `Q4_K`. */
  readonly type: string;
  readonly device: Device;
  /** What kernels take. */
  readonly data: QuantData;
  readonly #tensors: readonly Tensor[];

  private constructor(shape: readonly number[], type: string, tensors: readonly Tensor[], data: QuantData) {
    this.shape = [shape[0]!, shape[1]!];
    this.type = type;
    this.device = tensors[0]!.device;
    this.data = data;
    this.#tensors = tensors;
  }

  /** Takes the tensors over. Throws ShapeError and DTypeError when they do not make a matrix of `shape` [N, K]. */
  static fourBit(shape: readonly number[], parts: FourBitParts): QuantizedWeight {
    const { type, packed, absmax, blockSize, nested, valueDType } = parts;
    checkMatrix(shape);
    checkBlockSize(blockSize);
    const elements = elementCount(shape);
    const blocks = Math.ceil(elements / blockSize);
    expect("packed", packed, uint8, Math.ceil(elements / 2));
    expect("absmax", absmax, nested ? uint8 : float32, blocks);
    if (nested) {
      expect("nested absmax", nested.absmax, float32, Math.ceil(blocks / nestedBlockSize));
      expect("nested code", nested.code, float32, 256);
    }
    const code = Tensor.from(fourBitLevels[type], { device: packed.device });
    const tensors = [packed, absmax, code, ...(nested ? [nested.absmax, nested.code] : [])];
    return new QuantizedWeight(shape, type, tensors, {
      kind: "code4",
      packed: packed.ptr,
      absmax: absmax.ptr,
      code: code.ptr,
      blockSize,
      levelScale: levelScales[type],
      ...(valueDType && valueDType !== float32 && { valueDType }),
      ...(nested && { nested: { absmax: nested.absmax.ptr, code: nested.code.ptr, offset: nested.offset } }),
    });
  }

  /** Takes `blocks` over: uint8, the blocks of [N, K] along K. */
  static ggml(shape: readonly number[], type: GgmlType, blocks: Tensor): QuantizedWeight {
    checkMatrix(shape);
    const format = ggmlFormat(type);
    if (!format)
      throw new ArgumentError(`QuantizedWeight: ${type.name} is no quantized type that llcuda computes with`);
    if (shape[1]! % type.blockElements !== 0) {
      throw new ShapeError(
        `QuantizedWeight: rows of ${formatShape(shape)} are no whole number of ${type.name} blocks of ${type.blockElements}`,
      );
    }
    expect("blocks", blocks, uint8, ggmlBytes(type, elementCount(shape)));
    return new QuantizedWeight(shape, type.name, [blocks], { kind: "ggml", type: format, blocks: blocks.ptr });
  }

  /** Quantizes a float matrix [N, K] on its device, bit for bit as bitsandbytes does. `x` stays as it is. */
  static quantize(x: Tensor, options: QuantizeOptions = {}): QuantizedWeight {
    const { type = "nf4", blockSize = 64, nested = false } = options;
    if (!nested) {
      const weight = QuantizedWeight.reserve(x.shape, x.dtype, x.device, { type, blockSize });
      weight.fill(x);
      return weight;
    }
    checkQuantizable(x, blockSize);
    const { device, size } = x;
    const blocks = Math.ceil(size / blockSize);
    const packed = Tensor.empty([Math.ceil(size / 2)], { dtype: uint8, device });
    using plain = Tensor.empty([blocks], { dtype: float32, device });
    quantizeInto(x, packed, plain, blockSize, type);
    using offset = Tensor.empty([1], { dtype: float32, device });
    const absmax = Tensor.empty([blocks], { dtype: uint8, device });
    const nestedAbsmax = Tensor.empty([Math.ceil(blocks / nestedBlockSize)], { dtype: float32, device });
    const code = Tensor.from(dynamicCode(), { device });
    nestAbsmax(device.stream, {
      bytes: absmax.ptr,
      nestedAbsmax: nestedAbsmax.ptr,
      offset: offset.ptr,
      absmax: plain.ptr,
      code: code.ptr,
      count: blocks,
    });
    const of = { absmax: nestedAbsmax, code, offset: offset.item() as number };
    return QuantizedWeight.fourBit(x.shape, { type, packed, absmax, blockSize, nested: of, valueDType: x.dtype });
  }

  /** Memory for a matrix [N, K] of `dtype` in 4-bit codes with float32 absmax, to be filled. */
  static reserve(
    shape: readonly number[],
    dtype: DType,
    device: Device,
    options: Omit<QuantizeOptions, "nested"> = {},
  ): QuantizedWeight {
    const { type = "nf4", blockSize = 64 } = options;
    checkMatrix(shape);
    checkBlockSize(blockSize);
    const elements = elementCount(shape);
    const packed = Tensor.empty([Math.ceil(elements / 2)], { dtype: uint8, device });
    const absmax = Tensor.empty([Math.ceil(elements / blockSize)], { dtype: float32, device });
    return QuantizedWeight.fourBit(shape, { type, packed, absmax, blockSize, valueDType: dtype });
  }

  /**
   * Quantizes `x` [n, K], any float type, into the rows from `firstRow` on of this weight, which `reserve` made; both begin with
   * a block.
   */
  fill(x: Tensor, firstRow = 0): void {
    const [packed, absmax] = this.#tensors;
    const { data } = this;
    if (data.kind !== "code4" || data.nested) {
      throw new ArgumentError(
        `QuantizedWeight.fill: only 4-bit codes with float32 absmax can be filled, this is ${this.type}`,
      );
    }
    checkQuantizable(x, data.blockSize);
    const [n, k] = this.shape;
    const first = firstRow * k;
    const fits = x.shape[1] === k && firstRow + x.shape[0]! <= n && first % data.blockSize === 0;
    if (!fits || (firstRow + x.shape[0]! < n && x.size % data.blockSize !== 0)) {
      throw new ShapeError(
        `QuantizedWeight.fill: ${formatShape(x.shape)} from row ${firstRow} on is no part of ${formatShape(this.shape)} in whole blocks of ${data.blockSize}`,
      );
    }
    using codes = packed!.slice(0, first / 2, Math.ceil((first + x.size) / 2));
    using scales = absmax!.slice(0, first / data.blockSize, Math.ceil((first + x.size) / data.blockSize));
    quantizeInto(x, codes, scales, data.blockSize, this.type as FourBitType);
  }

  /** What it takes of device memory. */
  get sizeBytes(): number {
    return this.#tensors.reduce((sum, tensor) => sum + tensor.sizeBytes, 0);
  }

  /** The values [N, K], rounded once from float32; of 4-bit codes first to `valueDType`, where `dtype` is finer. */
  dequantize(dtype: DTypeLike = float32): Tensor {
    const out = Tensor.empty(this.shape, { dtype, device: this.device });
    const [rows, k] = this.shape;
    dequantizeWeight(this.device.stream, this.data, { out: out.ptr, rows, k, dtype: dtypeOf(dtype) });
    return out;
  }

  /** Rows by id times a factor, as an embedding takes them: ids int32 [...] gives [..., K]; NaN for an id outside. */
  rows(ids: Tensor, dtype: DType, factor = 1): Tensor {
    const [n, cols] = this.shape;
    const out = Tensor.empty([...ids.shape, cols], { dtype, device: this.device });
    const { data } = this;
    if (data.kind !== "ggml") throw new ArgumentError(`QuantizedWeight.rows: ${this.type} has no lookup of rows`);
    const { type, blocks } = data;
    const taken = { ids: ids.ptr, rows: ids.size, factor };
    dequantizeGgml(this.device.stream, { out: out.ptr, blocks, type, n, cols, dtype, ...taken });
    return out;
  }

  dispose(): void {
    for (const tensor of this.#tensors) tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function checkQuantizable(x: Tensor, blockSize: number): void {
  checkMatrix(x.shape);
  checkBlockSize(blockSize);
  if (!x.dtype.isFloat) throw new DTypeError(`quantize: got ${x.dtype.name}; use float32, float16 or bfloat16`);
}

function quantizeInto(x: Tensor, packed: Tensor, absmax: Tensor, blockSize: number, type: FourBitType): void {
  using rows = x.contiguous();
  const { dtype, size: count, device } = rows;
  const to = { packed: packed.ptr, absmax: absmax.ptr };
  quantizeCode4(device.stream, { ...to, x: rows.ptr, count, blockSize, dtype, type });
}

function checkMatrix(shape: readonly number[]): void {
  if (shape.length !== 2)
    throw new ShapeError(`QuantizedWeight: it must be a matrix [N, K], got ${formatShape(shape)}`);
}

function checkBlockSize(blockSize: number): void {
  if (code4BlockSizes.includes(blockSize)) return;
  throw new ArgumentError(`QuantizedWeight: blocks of ${blockSize}; use one of ${code4BlockSizes.join(", ")}`);
}

function expect(name: string, tensor: Tensor, dtype: DType, size: number): void {
  if (tensor.dtype === dtype && tensor.size === size) return;
  throw new ShapeError(
    `QuantizedWeight: ${name} must be ${size} elements of ${dtype.name}, got ${tensor.size} of ${tensor.dtype.name}`,
  );
}
