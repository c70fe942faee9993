import type { DType } from "../base/dtype.ts";
import { ShapeError } from "../base/errors.ts";
import { ptrAdd } from "../driver/api.ts";
import { gatedActivation } from "../kernels/activation/activation.ts";
import { Tensor } from "../tensor/tensor.ts";
import { type ProductTarget, Projection } from "./projection.ts";

/**
 * Projections of one input whose results lie side by side: queries, keys and values, or gate and up, where their weights are
 * stored in different types and so cannot be one matrix. A product each, into columns of one result.
 */
export class StackedLinear extends Projection {
  readonly parts: readonly Projection[];

  /** Throws ShapeError when the parts take inputs of different widths. */
  constructor(parts: readonly Projection[]) {
    super();
    const widths = new Set(parts.map((part) => part.inFeatures));
    if (widths.size !== 1) {
      throw new ShapeError(`StackedLinear: the parts must take one width, got ${[...widths].join(", ") || "no parts"}`);
    }
    this.parts = parts;
  }

  get inFeatures(): number {
    return this.parts[0]!.inFeatures;
  }

  get outFeatures(): number {
    return this.parts.reduce((sum, part) => sum + part.outFeatures, 0);
  }

  protected get inputDType(): DType | undefined {
    return undefined;
  }

  multiply(rows: Tensor, target: ProductTarget): void {
    if (target.gate) {
      this.#multiplyGated(rows, target, target.gate);
      return;
    }
    let column = 0;
    for (const part of this.parts) {
      part.multiply(rows, { ...target, out: ptrAdd(target.out, column * (target.outDType ?? rows.dtype).bytes) });
      column += part.outFeatures;
    }
  }

  /** Both halves go to memory first: no kernel has both of their weights. */
  #multiplyGated(rows: Tensor, target: ProductTarget, activation: NonNullable<ProductTarget["gate"]>): void {
    const { dtype, device } = rows;
    const width = this.outFeatures;
    const count = rows.size / Math.max(1, this.inFeatures);
    using halves = Tensor.empty([count, width], { dtype, device });
    this.multiply(rows, { out: halves.ptr, stride: width, residual: false });
    gatedActivation(device.stream, {
      out: target.out,
      gate: halves.ptr,
      up: ptrAdd(halves.ptr, (width / 2) * dtype.bytes),
      activation,
      rows: count,
      cols: width / 2,
      outStride: target.stride,
      gateStride: width,
      upStride: width,
      dtype,
    });
  }
}
