import type { DTypeLike } from "../base/dtype.ts";
import { ShapeError } from "../base/errors.ts";
import { elementCount, formatShape } from "../base/shape.ts";
import type { Device } from "../driver/device.ts";
import { matmul } from "../kernels/matmul/matmul.ts";
import type { MatmulParams } from "../kernels/matmul/params.ts";
import { Tensor } from "../tensor/tensor.ts";
import { Module } from "./module.ts";

/** The activation between the two halves of a gated feed-forward layer. */
export type GateActivation = NonNullable<MatmulParams["gate"]>;

/** y = x · weightᵀ + bias. weight [N, K], bias [N]; x [..., K] gives [..., N]. */
export class Linear extends Module {
  weight: Tensor;
  bias?: Tensor;
  /**
   * No kernel writes the weight while this layer is in use, as of a loaded model: a product may then read it before the
   * kernel before has ended (`overlap` of MatmulParams).
   */
  readonly fixed: boolean;

  constructor(weight: Tensor, bias?: Tensor, options: { fixed?: boolean } = {}) {
    super();
    this.fixed = options.fixed ?? false;
    if (weight.rank !== 2 || (bias && (bias.rank !== 1 || bias.shape[0] !== weight.shape[0]))) {
      throw new ShapeError(
        `Linear: weight must be [out, in] and bias [out], got ${formatShape(weight.shape)}${bias ? ` and ${formatShape(bias.shape)}` : ""}`,
      );
    }
    this.weight = weight;
    if (bias) this.bias = bias;
  }

  /** A layer with uniform random weights in ±1/√K, as PyTorch's nn.Linear starts. */
  static create(
    inFeatures: number,
    outFeatures: number,
    options: { bias?: boolean; dtype?: DTypeLike; device?: Device | string; seed?: number } = {},
  ): Linear {
    const { bias = true, seed = 0, ...place } = options;
    const bound = 1 / Math.sqrt(Math.max(1, inFeatures));
    const uniform = (shape: number[], streamSeed: number) =>
      Tensor.rand(shape, { ...place, seed: streamSeed })
        .mul_(2 * bound)
        .add_(-bound);
    return new Linear(uniform([outFeatures, inFeatures], seed), bias ? uniform([outFeatures], seed + 1) : undefined);
  }

  get inFeatures(): number {
    return this.weight.shape[1]!;
  }

  get outFeatures(): number {
    return this.weight.shape[0]!;
  }

  /** With `residual` [..., N], adds it before the result is rounded; the result is then written over the residual. */
  forward(x: Tensor, options: { residual?: Tensor } = {}): Tensor {
    return this.#product(x, this.outFeatures, options.residual ? { residual: options.residual } : {});
  }

  /** For a weight that stacks a gate and an up projection [2F, K]: activation(gate) · up, [..., F]. */
  forwardGated(x: Tensor, activation: GateActivation): Tensor {
    return this.#product(x, this.outFeatures / 2, { gate: activation });
  }

  #product(x: Tensor, n: number, epilogue: { residual?: Tensor; gate?: GateActivation }): Tensor {
    const k = this.inFeatures;
    if (x.shape.at(-1) !== k || x.dtype !== this.weight.dtype) {
      throw new ShapeError(
        `Linear: input must be [..., ${k}] ${this.weight.dtype.name}, got ${formatShape(x.shape)} ${x.dtype.name}; weight is ${formatShape(this.weight.shape)}`,
      );
    }
    const rows = x.contiguous();
    const shape = [...x.shape.slice(0, -1), n];
    const out = epilogue.residual ?? Tensor.empty(shape, { dtype: x.dtype, device: x.device });
    if (epilogue.residual && elementCount(out.shape) !== elementCount(shape)) {
      throw new ShapeError(
        `Linear: residual ${formatShape(out.shape)} must have the shape of the result, ${formatShape(shape)}`,
      );
    }
    matmul(x.device.stream, {
      out: out.ptr,
      a: rows.ptr,
      b: this.weight.ptr,
      m: elementCount(x.shape) / Math.max(1, k),
      n,
      k,
      dtype: x.dtype,
      transposeB: true,
      overlap: this.fixed,
      ...(this.bias ? { bias: this.bias.ptr } : {}),
      ...(epilogue.residual ? { residual: out.ptr } : {}),
      ...(epilogue.gate ? { gate: epilogue.gate } : {}),
    });
    rows.dispose();
    return out;
  }
}
