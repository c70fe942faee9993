import type { DType, DTypeLike } from "../base/dtype.ts";
import { ShapeError } from "../base/errors.ts";
import { formatShape } from "../base/shape.ts";
import type { Device } from "../driver/device.ts";
import { matmul } from "../kernels/matmul/matmul.ts";
import { Tensor } from "../tensor/tensor.ts";
import { type ProductTarget, Projection } from "./projection.ts";

export type { GateActivation } from "./projection.ts";

/** y = x · weightᵀ + bias. weight [N, K], bias [N]; x [..., K] gives [..., N]. */
export class Linear extends Projection {
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

  protected get inputDType(): DType {
    return this.weight.dtype;
  }

  multiply(rows: Tensor, target: ProductTarget): void {
    const product = this.productOf(rows, target, this.bias);
    const b = this.weight.ptr;
    matmul(rows.device.stream, { ...product, a: rows.ptr, b, transposeB: true, overlap: this.fixed });
  }
}
