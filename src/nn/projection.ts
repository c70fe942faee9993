import { type DType, float32 } from "../base/dtype.ts";
import { ShapeError } from "../base/errors.ts";
import { elementCount, formatShape } from "../base/shape.ts";
import type { DevicePtr } from "../driver/api.ts";
import type { MatmulParams } from "../kernels/matmul/params.ts";
import { Tensor } from "../tensor/tensor.ts";
import type { ProjectionAdapters } from "./lora/projection-adapters.ts";
import { Module } from "./module.ts";

/** The activation between the two halves of a gated feed-forward layer. */
export type GateActivation = NonNullable<MatmulParams["gate"]>;

/** Where a product goes: columns of a row-major matrix whose rows are `stride` elements apart. */
export interface ProductTarget {
  readonly out: DevicePtr;
  /** Of the target, where it is not the input's: float32, the halves of a gated product before their activation. */
  readonly outDType?: DType | undefined;
  readonly stride: number;
  /** What lies there is added before the result is rounded. */
  readonly residual: boolean;
  /** The layer stacks a gate and an up projection; the target has half as many columns. */
  readonly gate?: GateActivation | undefined;
}

interface Epilogue {
  readonly residual?: Tensor | undefined;
  readonly gate?: GateActivation;
  readonly outDType?: DType;
}

/** A module of the checkpoint, by its name there: `model.layers.0.self_attn.q_proj`. */
export interface StackedModule {
  readonly name: string;
  readonly rows: number;
}

/** y = x · Wᵀ + bias, however W is stored: x [..., K] gives [..., N]. */
export abstract class Projection extends Module {
  abstract readonly inFeatures: number;
  abstract readonly outFeatures: number;
  /** The modules whose rows it has, in their order; empty for a layer that no checkpoint names. */
  stacks: readonly StackedModule[] = [];
  /** What loaded adapters add to the result. */
  adapters: ProjectionAdapters | undefined;
  /** Of the input, where the weight's storage decides it. */
  protected abstract readonly inputDType: DType | undefined;

  /** Queues the product of `rows`, contiguous [M, K]. */
  abstract multiply(rows: Tensor, target: ProductTarget): void;

  /** With `residual` [..., N], adds it before the result is rounded; the result is then written over the residual. */
  forward(x: Tensor, options: { residual?: Tensor } = {}): Tensor {
    const { adapters } = this;
    if (adapters?.replacement) return adapters.replacement.forward(x, options);
    const out = this.#product(x, this.outFeatures, { residual: options.residual });
    if (adapters?.isActive) adapters.add(x, out);
    return out;
  }

  /** For a weight that stacks a gate and an up projection [2F, K]: activation(gate) · up, [..., F]. */
  forwardGated(x: Tensor, activation: GateActivation): Tensor {
    const { adapters } = this;
    if (adapters?.replacement) return adapters.replacement.forwardGated(x, activation);
    if (!adapters?.isActive) return this.#product(x, this.outFeatures / 2, { gate: activation });
    // The adapters' part comes before the activation. In float32, and by the kernels that fused products have (cuBLASLt has none),
    // so that rows without one get the bits of a fused product.
    using halves = this.#product(x, this.outFeatures, { outDType: float32 });
    return adapters.gate(x, halves, activation);
  }

  /** What every product takes of its input, its target and the layer's bias. */
  protected productOf(
    rows: Tensor,
    { out, outDType, stride, residual, gate }: ProductTarget,
    bias: Tensor | undefined,
  ) {
    const [n, k] = [this.outFeatures, this.inFeatures];
    return {
      out,
      m: rows.size / Math.max(1, k),
      n: gate ? n / 2 : n,
      k,
      dtype: rows.dtype,
      outDtype: outDType ?? rows.dtype,
      ldd: stride,
      ...(bias && { bias: bias.ptr }),
      ...(residual && { residual: out }),
      ...(gate && { gate }),
      ...(outDType && { backend: "own" as const }),
    };
  }

  #product(x: Tensor, n: number, epilogue: Epilogue): Tensor {
    const { residual, gate, outDType } = epilogue;
    const k = this.inFeatures;
    const dtype = this.inputDType ?? x.dtype;
    if (x.shape.at(-1) !== k || x.dtype !== dtype || !x.dtype.isFloat) {
      throw new ShapeError(
        `Linear: input must be [..., ${k}] ${this.inputDType?.name ?? "of a float type"}, got ${formatShape(x.shape)} ${x.dtype.name}; weight is ${formatShape([this.outFeatures, k])}`,
      );
    }
    const shape = [...x.shape.slice(0, -1), n];
    const out = residual ?? Tensor.empty(shape, { dtype: outDType ?? x.dtype, device: x.device });
    if (residual && elementCount(residual.shape) !== elementCount(shape)) {
      throw new ShapeError(
        `Linear: residual ${formatShape(residual.shape)} must have the shape of the result, ${formatShape(shape)}`,
      );
    }
    const rows = x.contiguous();
    this.multiply(rows, { out: out.ptr, outDType, stride: n, residual: residual !== undefined, gate });
    rows.dispose();
    return out;
  }
}
