import { ShapeError } from "../base/errors.ts";
import { formatShape } from "../base/shape.ts";
import { quantMatmul } from "../kernels/quant-matmul/quant-matmul.ts";
import type { QuantizedWeight } from "../tensor/quantized-weight.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type ProductTarget, Projection } from "./projection.ts";

/**
 * y = x · weightᵀ + bias with a weight that stays quantized: NF4 or FP4 (bitsandbytes' Linear4bit), or a GGML type.
 * x [..., K] of any float type gives [..., N] of the same; sums are float32. bias [N], of x's type.
 */
export class QuantizedLinear extends Projection {
  readonly weight: QuantizedWeight;
  bias?: Tensor;
  protected readonly inputDType = undefined;

  /** Takes both over. Throws ShapeError for a bias that is not [N]. */
  constructor(weight: QuantizedWeight, bias?: Tensor) {
    super();
    if (bias && (bias.rank !== 1 || bias.shape[0] !== weight.shape[0])) {
      throw new ShapeError(
        `QuantizedLinear: bias must be [${weight.shape[0]}], got ${formatShape(bias.shape)}; weight is ${formatShape(weight.shape)}`,
      );
    }
    this.weight = weight;
    if (bias) this.bias = bias;
  }

  get inFeatures(): number {
    return this.weight.shape[1];
  }

  get outFeatures(): number {
    return this.weight.shape[0];
  }

  multiply(rows: Tensor, target: ProductTarget): void {
    const product = this.productOf(rows, target, this.bias);
    quantMatmul(rows.device.stream, { ...product, x: rows.ptr, weight: this.weight.data, overlap: true });
  }
}
