import { ShapeError } from "../base/errors.ts";
import { formatShape } from "../base/shape.ts";
import { rmsNorm } from "../kernels/rms-norm/rms-norm.ts";
import { Tensor } from "../tensor/tensor.ts";
import { Module } from "./module.ts";

/** y = x / sqrt(mean(x²) + eps) · (weight + weightOffset), over the last dimension. Source: arXiv 1910.07467. */
export class RMSNorm extends Module {
  weight: Tensor;
  readonly eps: number;
  /** Added to the weight in float32: Gemma stores weight - 1. */
  readonly weightOffset: number;
  /** The module of the checkpoint that it is, where it is one: `model.layers.0.input_layernorm`. */
  name: string | undefined;

  constructor(weight: Tensor, eps: number, weightOffset = 0) {
    super();
    this.weight = weight;
    this.eps = eps;
    this.weightOffset = weightOffset;
  }

  /** x [..., C], of the weight's dtype. With `residual` of its shape, adds the result to that, in float32, and returns it. */
  forward(x: Tensor, options: { residual?: Tensor } = {}): Tensor {
    const cols = this.weight.size;
    if (x.shape.at(-1) !== cols || x.dtype !== this.weight.dtype) {
      throw new ShapeError(
        `RMSNorm: input must be [..., ${cols}] ${this.weight.dtype.name}, got ${formatShape(x.shape)} ${x.dtype.name}`,
      );
    }
    const { residual } = options;
    if (residual && (residual.size !== x.size || residual.dtype !== x.dtype)) {
      throw new ShapeError(
        `RMSNorm: residual must be ${formatShape(x.shape)} ${x.dtype.name} like the input, got ${formatShape(residual.shape)} ${residual.dtype.name}`,
      );
    }
    const rows = x.contiguous();
    const out = residual ?? Tensor.empty(x.shape, { dtype: x.dtype, device: x.device });
    rmsNorm(x.device.stream, {
      out: out.ptr,
      x: rows.ptr,
      weight: this.weight.ptr,
      ...(residual ? { addend: residual.ptr } : {}),
      rows: x.size / cols,
      cols,
      eps: this.eps,
      weightOffset: this.weightOffset,
      dtype: x.dtype,
    });
    rows.dispose();
    return out;
  }
}
