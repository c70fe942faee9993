import type { DType } from "../base/dtype.ts";
import { ShapeError } from "../base/errors.ts";
import { elementCount, formatShape } from "../base/shape.ts";
import type { DevicePtr } from "../driver/api.ts";
import type { MatmulParams } from "../kernels/matmul/params.ts";
import { Tensor } from "../tensor/tensor.ts";
import { Module } from "./module.ts";

/** The activation between the two halves of a gated feed-forward layer. */
export type GateActivation = NonNullable<MatmulParams["gate"]>;

/** Where a product goes: columns of a row-major matrix whose rows are `stride` elements apart. */
export interface ProductTarget {
  readonly out: DevicePtr;
  readonly stride: number;
  /** What lies there is added before the result is rounded. */
  readonly residual: boolean;
  /** The layer stacks a gate and an up projection; the target has half as many columns. */
  readonly gate?: GateActivation | undefined;
}

/** y = x · Wᵀ + bias, however W is stored: x [..., K] gives [..., N]. */
export abstract class Projection extends Module {
  abstract readonly inFeatures: number;
  abstract readonly outFeatures: number;
  /** Of the input, where the weight's storage decides it. */
  protected abstract readonly inputDType: DType | undefined;

  /** Queues the product of `rows`, contiguous [M, K]. */
  abstract multiply(rows: Tensor, target: ProductTarget): void;

  /** With `residual` [..., N], adds it before the result is rounded; the result is then written over the residual. */
  forward(x: Tensor, options: { residual?: Tensor } = {}): Tensor {
    return this.#product(x, this.outFeatures, options.residual);
  }

  /** For a weight that stacks a gate and an up projection [2F, K]: activation(gate) · up, [..., F]. */
  forwardGated(x: Tensor, activation: GateActivation): Tensor {
    return this.#product(x, this.outFeatures / 2, undefined, activation);
  }

  #product(x: Tensor, n: number, residual?: Tensor, gate?: GateActivation): Tensor {
    const k = this.inFeatures;
    const dtype = this.inputDType ?? x.dtype;
    if (x.shape.at(-1) !== k || x.dtype !== dtype || !x.dtype.isFloat) {
      throw new ShapeError(
        `Linear: input must be [..., ${k}] ${this.inputDType?.name ?? "of a float type"}, got ${formatShape(x.shape)} ${x.dtype.name}; weight is ${formatShape([this.outFeatures, k])}`,
      );
    }
    const shape = [...x.shape.slice(0, -1), n];
    const out = residual ?? Tensor.empty(shape, { dtype: x.dtype, device: x.device });
    if (residual && elementCount(residual.shape) !== elementCount(shape)) {
      throw new ShapeError(
        `Linear: residual ${formatShape(residual.shape)} must have the shape of the result, ${formatShape(shape)}`,
      );
    }
    const rows = x.contiguous();
    this.multiply(rows, { out: out.ptr, stride: n, residual: residual !== undefined, gate });
    rows.dispose();
    return out;
  }
}
