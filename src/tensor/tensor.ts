import { type DType, type DTypeLike, dtype } from "../base/dtype.ts";
import { StateError } from "../base/errors.ts";
import { elementCount, formatShape, type Shape } from "../base/shape.ts";
import { type DevicePtr, ptrAdd } from "../driver/api.ts";
import type { Device } from "../driver/device.ts";
import type { DeviceBuffer } from "../driver/memory.ts";
import type { TensorOptions } from "./create.ts";
import * as create from "./create.ts";
import type { HostInput, HostTensor } from "./host-tensor.ts";
import { isContiguous, type Layout, type ShapeArgs, shapeOf } from "./layout.ts";
import type { Nested } from "./nested.ts";
import { cat, stack } from "./ops/cat.ts";
import * as copy from "./ops/copy.ts";
import { binary, binary_, type Operand, unary, unary_ } from "./ops/elementwise.ts";
import { embedding } from "./ops/embedding.ts";
import { matmul } from "./ops/matmul.ts";
import { rmsNorm } from "./ops/norm.ts";
import { argmax, topk } from "./ops/order.ts";
import { type Dims, reduce } from "./ops/reduce.ts";
import { softmax } from "./ops/softmax.ts";
import type { Storage } from "./storage.ts";
import { track, untrack } from "./tidy.ts";
import * as views from "./views.ts";

/**
 * Elements of one dtype in device memory, seen through a layout (shape, strides, offset).
 *
 * Every method gives a tensor of its own, to be disposed on its own, also where it shares memory (views; `contiguous`
 * and `to` when there is nothing to do); memory is freed with the last tensor on it. Methods whose name ends in `_`
 * change this tensor and return it. Work is queued on `device.stream` and runs in order; `cpu`, `toArray`, `toNested`
 * and `item` wait for it. Dimensions and indices may be negative, counting from the end. Operands broadcast by NumPy's
 * rule and are promoted to a common dtype (see `promote`); sums are float32. What does not fit throws ShapeError or
 * DTypeError, which name the operation and both operands.
 */
export class Tensor implements Disposable, Layout {
  readonly device: Device;
  readonly dtype: DType;
  readonly shape: Shape;
  readonly strides: readonly number[];
  readonly offset: number;
  readonly #storage: Storage;
  #disposed = false;

  /** Takes over one hold on `storage`. Use the static methods, or `Tensor.wrap` for memory of one's own. */
  constructor(storage: Storage, layout: Layout, dtype: DType) {
    this.#storage = storage;
    this.device = storage.device;
    this.dtype = dtype;
    this.shape = layout.shape;
    this.strides = layout.strides;
    this.offset = layout.offset;
    track(this);
  }

  /** From nested arrays, a typed array or a HostTensor; see HostTensor.from for dtypes. `shape` defaults to the input's. */
  static from(input: HostInput, options: TensorOptions & { shape?: Shape } = {}): Tensor {
    return create.from(input, options);
  }

  /** Uninitialised memory. Like every tensor made without a dtype, float32. `tag` names it in out-of-memory reports. */
  static empty(shape: Shape, options: TensorOptions = {}): Tensor {
    return create.empty(shape, options);
  }

  static zeros(shape: Shape, options: TensorOptions = {}): Tensor {
    return create.full(shape, 0, options);
  }

  static ones(shape: Shape, options: TensorOptions = {}): Tensor {
    return create.full(shape, 1, options);
  }

  static full(shape: Shape, value: number | bigint, options: TensorOptions = {}): Tensor {
    return create.full(shape, value, options);
  }

  /** start, start + step, … before end: `arange(end)` or `arange(start, end, step)`. int32 when all are whole, else float32. */
  static arange(start: number, end?: number, step?: number, options: TensorOptions = {}): Tensor {
    return create.arange(start, end, step, options);
  }

  /** Uniform in [0, 1). Element i depends on seed and i alone, so that every device gives the same numbers. */
  static rand(shape: Shape, options: TensorOptions & { seed?: number } = {}): Tensor {
    return create.random("uniform", shape, options);
  }

  /** Normally distributed, mean 0 and variance 1; seeded as `rand`. */
  static randn(shape: Shape, options: TensorOptions & { seed?: number } = {}): Tensor {
    return create.random("normal", shape, options);
  }

  /** Joins tensors, whose other dimensions agree, along `dim`. */
  static cat(tensors: readonly Tensor[], dim = 0): Tensor {
    return cat(tensors, dim);
  }

  /** Joins tensors of one shape along a new dimension. */
  static stack(tensors: readonly Tensor[], dim = 0): Tensor {
    return stack(tensors, dim);
  }

  /** A contiguous tensor over `buffer`, which it owns from now on. */
  static wrap(device: Device, buffer: DeviceBuffer, shape: Shape, like: DTypeLike): Tensor {
    return create.wrap(device, buffer, shape, dtype(like));
  }

  get rank(): number {
    return this.shape.length;
  }

  /** The number of elements. */
  get size(): number {
    return elementCount(this.shape);
  }

  /** Bytes of the elements, each counted once for every index that leads to it. */
  get sizeBytes(): number {
    return this.size * this.dtype.bytes;
  }

  /** The memory that this tensor and its views look at. Throws StateError after `dispose()`. */
  get storage(): Storage {
    if (this.#disposed) {
      throw new StateError(
        `Tensor ${formatShape(this.shape)} ${this.dtype.name}: used after dispose(); return it from tidy(), or dispose it later`,
      );
    }
    return this.#storage;
  }

  /** The address of the first element. */
  get ptr(): DevicePtr {
    return ptrAdd(this.storage.buffer.ptr, this.offset * this.dtype.bytes);
  }

  /** True when the elements lie in row-major order without gaps. */
  get isContiguous(): boolean {
    return isContiguous(this);
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** A second call does nothing. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    untrack(this);
    this.#storage.release();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  toString(): string {
    return `Tensor(${formatShape(this.shape)}, ${this.dtype.name}, ${this.device.name})`;
  }

  // Reading

  /** Waits, and copies the elements to host memory. */
  cpu(): HostTensor {
    return copy.cpu(this);
  }

  /** Waits, and gives the elements as numbers: Float32Array for float dtypes, else the dtype's integer array. */
  toArray(): Float32Array | Int32Array | BigInt64Array | Uint8Array {
    return this.cpu().toArray();
  }

  /** Waits, and gives the elements in nested arrays; a plain number for rank 0. */
  toNested(): Nested {
    return this.cpu().toNested();
  }

  /** Waits, and gives the one element. Throws ShapeError when there are more or none. */
  item(): number {
    return copy.item(this);
  }

  // Views

  /** The same memory in another shape, one size of which may be -1. Throws ShapeError where that takes a copy. */
  view(...shape: ShapeArgs): Tensor {
    return this.alias(views.view(this, shapeOf(shape)));
  }

  /** Another shape, one size of which may be -1: a view where possible, else a copy. */
  reshape(...shape: ShapeArgs): Tensor {
    return copy.reshape(this, shapeOf(shape));
  }

  /** Makes dimensions startDim to endDim one. */
  flatten(startDim = 0, endDim = -1): Tensor {
    return copy.reshape(this, views.flattenedShape(this.shape, startDim, endDim));
  }

  transpose(dim0: number, dim1: number): Tensor {
    return this.alias(views.transpose(this, dim0, dim1));
  }

  /** The order in which the dimensions shall come. */
  permute(...dims: ShapeArgs): Tensor {
    return this.alias(views.permute(this, shapeOf(dims)));
  }

  /** Elements start, start + step, … before `end` of one dimension; bounds are clamped as in Python, step >= 1. */
  slice(dim: number, start = 0, end = Number.POSITIVE_INFINITY, step = 1): Tensor {
    return this.alias(views.slice(this, dim, start, end, step));
  }

  /** `length` elements of one dimension from `start` on; nothing is clamped. */
  narrow(dim: number, start: number, length: number): Tensor {
    return this.alias(views.narrow(this, dim, start, length));
  }

  /** One index of a dimension, which goes away. */
  select(dim: number, index: number): Tensor {
    return this.alias(views.select(this, dim, index));
  }

  /** Repeats dimensions of size 1, and adds dimensions in front, without copying; -1 keeps a size. */
  expand(...shape: ShapeArgs): Tensor {
    return this.alias(views.expand(this, shapeOf(shape)));
  }

  /** Drops the dimensions of size 1, all or among `dims`. */
  squeeze(dims?: number | readonly number[]): Tensor {
    return this.alias(views.squeeze(this, dims));
  }

  /** Inserts a dimension of size 1. */
  unsqueeze(dim: number): Tensor {
    return this.alias(views.unsqueeze(this, dim));
  }

  /** Another layout over the same memory; the caller sees to it that it stays inside. */
  alias(layout: Layout): Tensor {
    return new Tensor(this.storage.retain(), layout, this.dtype);
  }

  /** The bytes of a contiguous tensor as elements of another dtype, whose last dimension shrinks or grows. */
  bitcast(like: DTypeLike): Tensor {
    return copy.bitcast(this, dtype(like));
  }

  // Copies

  /** Row-major without gaps: shares memory when it is so already. */
  contiguous(): Tensor {
    return copy.contiguous(this);
  }

  /** A copy in memory of its own, contiguous. */
  clone(): Tensor {
    return copy.clone(this);
  }

  /** Another dtype (floats round to nearest even, floats to integers towards zero) or device; shares memory when it is so already. */
  to(target: DTypeLike | Device | string): Tensor {
    return copy.to(this, target);
  }

  /** Overwrites the elements with those of `source`, which is broadcast and converted. */
  copy_(source: Tensor): this {
    copy.copyInto(this, source);
    return this;
  }

  fill_(value: number | bigint): this {
    copy.fillInto(this, value);
    return this;
  }

  // Arithmetic

  add(other: Operand): Tensor {
    return binary("add", this, other);
  }

  sub(other: Operand): Tensor {
    return binary("sub", this, other);
  }

  mul(other: Operand): Tensor {
    return binary("mul", this, other);
  }

  /** True division: integers give float32. */
  div(other: Operand): Tensor {
    return binary("div", this, other);
  }

  /** Where an operand is NaN, so is the result. */
  maximum(other: Operand): Tensor {
    return binary("maximum", this, other);
  }

  minimum(other: Operand): Tensor {
    return binary("minimum", this, other);
  }

  add_(other: Operand): this {
    binary_("add", this, other);
    return this;
  }

  sub_(other: Operand): this {
    binary_("sub", this, other);
    return this;
  }

  mul_(other: Operand): this {
    binary_("mul", this, other);
    return this;
  }

  div_(other: Operand): this {
    binary_("div", this, other);
    return this;
  }

  neg(): Tensor {
    return unary("neg", this);
  }

  abs(): Tensor {
    return unary("abs", this);
  }

  exp(): Tensor {
    return unary("exp", this);
  }

  log(): Tensor {
    return unary("log", this);
  }

  sqrt(): Tensor {
    return unary("sqrt", this);
  }

  rsqrt(): Tensor {
    return unary("rsqrt", this);
  }

  reciprocal(): Tensor {
    return unary("reciprocal", this);
  }

  tanh(): Tensor {
    return unary("tanh", this);
  }

  sigmoid(): Tensor {
    return unary("sigmoid", this);
  }

  relu(): Tensor {
    return unary("relu", this);
  }

  /** x · sigmoid(x). */
  silu(): Tensor {
    return unary("silu", this);
  }

  /** The exact form with erf, or with `"tanh"` its approximation. */
  gelu(approximate: "none" | "tanh" = "none"): Tensor {
    return unary(approximate === "tanh" ? "gelu" : "geluErf", this);
  }

  neg_(): this {
    unary_("neg", this);
    return this;
  }

  exp_(): this {
    unary_("exp", this);
    return this;
  }

  silu_(): this {
    unary_("silu", this);
    return this;
  }

  // Reductions

  /** Over `dims`, by default all. int64 for integers. The sum of nothing is 0. */
  sum(dims?: Dims, keepDim = false): Tensor {
    return reduce("sum", this, dims, keepDim);
  }

  /** Over `dims`, by default all. float32 for integers. The mean of nothing is NaN. */
  mean(dims?: Dims, keepDim = false): Tensor {
    return reduce("mean", this, dims, keepDim);
  }

  /** Over `dims`, by default all. NaN where an element is NaN. Throws ShapeError for the maximum of nothing. */
  max(dims?: Dims, keepDim = false): Tensor {
    return reduce("max", this, dims, keepDim);
  }

  min(dims?: Dims, keepDim = false): Tensor {
    return reduce("min", this, dims, keepDim);
  }

  /** int32 index of the largest element along `dim`, the first of equal ones; without `dim`, in the flattened tensor. */
  argmax(dim?: number, keepDim = false): Tensor {
    return argmax(this, dim, keepDim);
  }

  /** The k largest along `dim`, largest first, and their int32 indices; among equals, the lower index first. */
  topk(k: number, dim = -1): { values: Tensor; indices: Tensor } {
    return topk(this, k, dim);
  }

  // Layers' building blocks

  /** exp(x) / sum(exp(x)) along `dim`, in float32 inside. */
  softmax(dim = -1): Tensor {
    return softmax(this, dim);
  }

  /**
   * [..., M, K] · [..., K, N] gives [..., M, N]; a vector operand counts as a row on the left and as a column on the
   * right, and leaves no dimension. Batch dimensions broadcast. Transposed views are read as they are, without a copy.
   */
  matmul(other: Tensor): Tensor {
    return matmul(this, other);
  }

  /** x · rsqrt(mean(x²) + eps) · weight over the last dimension; weight [C]. Source: arXiv 1910.07467. */
  rmsNorm(weight: Tensor, eps: number): Tensor {
    return rmsNorm(this, weight, eps);
  }

  /** Rows of this table [V, C] for int32 or int64 `ids` [...]: [..., C]. An id outside the table gives a row of NaN. */
  embedding(ids: Tensor): Tensor {
    return embedding(this, ids);
  }
}
