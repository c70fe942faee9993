import type { DType } from "../base/dtype.ts";
import type { Shape } from "../base/shape.ts";
import type { Device } from "../driver/device.ts";
import { QuantizedWeight, type QuantizeOptions } from "../tensor/quantized-weight.ts";
import { Tensor } from "../tensor/tensor.ts";

/** A matrix [N, K] of a checkpoint, by name. */
export interface MatrixPart {
  readonly name: string;
  readonly shape: readonly [n: number, k: number];
}

/**
 * Where a network's parameters come from, seen under a name prefix. Layers ask for tensors by the checkpoint's names and
 * the shapes that the config implies; what comes back has storage at once and its values when loading has finished.
 */
export interface Weights {
  readonly device: Device;
  readonly dtype: DType;
  /** What names below it begin with, as the checkpoint has them. */
  readonly prefix: string;
  at(name: string): Weights;
  has(name: string): boolean;
  /** Throws when it is missing or has another shape. */
  tensor(name: string, shape: Shape): Tensor;
  /** Several tensors [n_i, …] as one [Σ n_i, …]: projections that run as a single product. `shape`: the same, divided otherwise. */
  stacked(parts: readonly { readonly name: string; readonly shape: Shape }[], shape?: Shape): Tensor;
  /**
   * Matrices [n_i, K] for products, as they are stored: neighbours of one type as one, a quantized one quantized. `keep`: not
   * to be quantized on the way, as an embedding or a head.
   */
  matrices(parts: readonly MatrixPart[], keep?: "keep"): (Tensor | QuantizedWeight)[];
  /**
   * The weights [N, K] of `shape` [E, N, K]'s experts, for grouped products: the parts one after the other. Quantized, a matrix of
   * all rows, where all parts are stored in one type (or become it on the way); else a tensor of `shape`.
   */
  experts(
    parts: readonly { readonly name: string; readonly shape: Shape }[],
    shape: readonly [experts: number, n: number, k: number],
  ): Tensor | QuantizedWeight;
}

/** The first dimension summed, the others as in the first part. */
export function stackedShape(parts: readonly { readonly shape: Shape }[]): Shape {
  const rows = parts.reduce((sum, part) => sum + part.shape[0]!, 0);
  return [rows, ...parts[0]!.shape.slice(1)];
}

/** Random parameters, for measuring shapes without a checkpoint: normal with deviation 0.02, norms' weights near 1. */
export class RandomWeights implements Weights {
  readonly device: Device;
  readonly dtype: DType;
  readonly #quantize: QuantizeOptions | undefined;
  readonly prefix: string;
  readonly #counter: { next: number };

  constructor(device: Device, dtype: DType, quantize?: QuantizeOptions, prefix = "", counter = { next: 1 }) {
    this.device = device;
    this.dtype = dtype;
    this.#quantize = quantize;
    this.prefix = prefix;
    this.#counter = counter;
  }

  at(name: string): RandomWeights {
    const prefix = join(this.prefix, name);
    return new RandomWeights(this.device, this.dtype, this.#quantize, prefix, this.#counter);
  }

  has(name: string): boolean {
    return !name.endsWith("bias");
  }

  tensor(_name: string, shape: Shape): Tensor {
    const values = Tensor.randn(shape, { dtype: this.dtype, device: this.device, seed: this.#counter.next++ });
    values.mul_(0.02);
    return shape.length === 1 ? values.add_(1) : values;
  }

  stacked(parts: readonly { readonly name: string; readonly shape: Shape }[], shape = stackedShape(parts)): Tensor {
    return this.tensor(parts[0]!.name, shape);
  }

  matrices(parts: readonly MatrixPart[], keep?: "keep"): (Tensor | QuantizedWeight)[] {
    const values = this.stacked(parts);
    if (!this.#quantize || keep) return [values];
    using _ = values;
    return [QuantizedWeight.quantize(values, this.#quantize)];
  }

  experts(
    parts: readonly { readonly name: string }[],
    shape: readonly [experts: number, n: number, k: number],
  ): Tensor | QuantizedWeight {
    const values = this.tensor(parts[0]!.name, shape);
    const [e, n, k] = shape;
    if (!this.#quantize || !expertsEndWithBlock(shape, this.#quantize.blockSize)) return values;
    using _ = values;
    using rows = values.view([e * n, k]);
    return QuantizedWeight.quantize(rows, { ...this.#quantize, nested: false });
  }
}

/** Whether an expert's weight is a whole number of blocks of 4-bit codes, so that the next one's begin behind it. */
export function expertsEndWithBlock([, n, k]: readonly [number, number, number], blockSize = 64): boolean {
  return (n * k) % blockSize === 0;
}

export function join(prefix: string, name: string): string {
  return prefix ? `${prefix}.${name}` : name;
}
