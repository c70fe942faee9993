import type { DType } from "../base/dtype.ts";
import { ShapeError } from "../base/errors.ts";
import { formatShape } from "../base/shape.ts";
import type { Device } from "../driver/device.ts";
import type { Stream } from "../driver/stream.ts";
import { floatVariant } from "../kernels/float-variant.ts";
import { combineExperts } from "../kernels/moe/combine.ts";
import { expertsMachine, type GroupedProductArgs, groupedProduct } from "../kernels/moe/grouped.ts";
import { groupedQuantProduct, multipliesQuantized, type QuantProductShape } from "../kernels/moe/grouped-quant.ts";
import { planExperts } from "../kernels/moe/plan.ts";
import { groupTableInts, routeExperts, routerLogits } from "../kernels/moe/route.ts";
import { canRouteOne, routeOne } from "../kernels/moe/route-one.ts";
import { endsWithBlock } from "../kernels/quant-matmul/rows.ts";
import { QuantizedWeight } from "../tensor/quantized-weight.ts";
import { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";
import type { FeedForward, FeedForwardOptions } from "./decoder-layer.ts";
import type { GateActivation } from "./linear.ts";
import { Module } from "./module.ts";
import type { RMSNorm } from "./rms-norm.ts";
import type { Weights } from "./weights.ts";

export interface MixtureConfig {
  /** k: experts that a token goes to; at most E. */
  readonly chosen: number;
  /** Whether a token's weights are divided by their sum. */
  readonly normalize: boolean;
  readonly activation: GateActivation;
}

export interface MixtureShape {
  /** E, C and F. */
  readonly experts: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
}

/** What a checkpoint calls the projections of one expert. */
export interface ExpertNames {
  readonly gate: string;
  readonly up: string;
  readonly down: string;
}

/**
 * A mixture of gated MLPs: every token goes to the k experts with the largest router probabilities, and their results are
 * added, weighted by these. All experts' weights are one tensor each, or one quantized weight, so that all run in one product:
 *
 *     p = softmax(x · routerᵀ)                                      [T, E]
 *     h = activation(x · gateᵀ) · (x · upᵀ)       for each chosen   [T · k, F]
 *     y = h · downᵀ                               for each chosen   [T · k, C]
 *     x += Σ p · y
 *
 * Nothing is dropped and no expert has a limit. Which expert gets which row is settled on the GPU, so a captured graph may
 * hold the layer. A token's result depends neither on the batch nor on its place in it, as long as the same kernels
 * run (planExperts): always so for the batches of a decode step. docs/kernels/moe.md
 */
export class MixtureOfExperts extends Module implements FeedForward {
  /** [E, C]. */
  router: Tensor;
  /** [E, 2F, C]: each expert's gate, then its up projection. Quantized: [E · 2F, C]. */
  gateUp: Tensor | QuantizedWeight;
  /** [E, C, F]. Quantized: [E · C, F]. */
  down: Tensor | QuantizedWeight;
  readonly config: MixtureConfig;
  /** What the checkpoint calls it: its prefix, `model.layers.0.mlp`, and the projections of an expert. */
  checkpoint: { readonly prefix: string; readonly names: ExpertNames } | undefined;
  /** Sees the router's logits [T, E] float32 of a pass before experts are chosen, and may overwrite them: to compare runs. */
  onRouterLogits: ((logits: Tensor) => void) | undefined;

  /**
   * Takes quantized weights whose experts each end with a block. Throws ShapeError when the three do not belong together, or with
   * fewer experts than a token goes to.
   */
  constructor(router: Tensor, gateUp: Tensor | QuantizedWeight, down: Tensor | QuantizedWeight, config: MixtureConfig) {
    super();
    const [e, c] = router.shape as [number, number];
    const f = down.shape.at(-1)!;
    if (router.rank !== 2 || !areExperts(gateUp, e, 2 * f, c) || !areExperts(down, e, c, f)) {
      throw new ShapeError(
        `MixtureOfExperts: router, gateUp and down must be [E, C], [E, 2F, C] and [E, C, F] (quantized: [E · 2F, C] and [E · C, F]), got ${[router, gateUp, down].map(({ shape }) => formatShape(shape)).join(", ")}`,
      );
    }
    if (!Number.isInteger(config.chosen) || config.chosen < 1 || config.chosen > e) {
      throw new ShapeError(
        `MixtureOfExperts: a token cannot go to ${config.chosen} of ${e} experts; choose from 1 to ${e}`,
      );
    }
    this.router = router;
    this.gateUp = gateUp;
    this.down = down;
    this.config = config;
  }

  /**
   * From `gate` (the router) and `experts` below `weights`: a tensor per expert and projection, `experts.3.<name>`, or all
   * experts in one, `experts.gate_up_proj` [E, 2F, C] and `experts.down_proj` [E, C, F], as transformers 5 holds them.
   */
  static load(
    weights: Weights,
    options: MixtureConfig & MixtureShape & { readonly names: ExpertNames },
  ): MixtureOfExperts {
    const { experts: e, hiddenSize: c, intermediateSize: f, names } = options;
    const router = weights.tensor("gate.weight", [e, c]);
    const all = weights.at("experts");
    const make = (gateUp: Tensor | QuantizedWeight, down: Tensor | QuantizedWeight) => {
      const mixture = new MixtureOfExperts(router, gateUp, down, options);
      mixture.checkpoint = { prefix: weights.prefix, names };
      return mixture;
    };
    if (all.has("gate_up_proj")) {
      return make(
        all.experts([{ name: "gate_up_proj", shape: [e, 2 * f, c] }], [e, 2 * f, c]),
        all.experts([{ name: "down_proj", shape: [e, c, f] }], [e, c, f]),
      );
    }
    const stack = (projections: readonly string[], rows: number, cols: number) => {
      const parts = Array.from({ length: e }, (_, i) =>
        projections.map((name) => ({ name: `${i}.${name}.weight`, shape: [rows, cols] })),
      ).flat();
      return all.experts(parts, [e, projections.length * rows, cols]);
    };
    return make(stack([names.gate, names.up], f, c), stack([names.down], c, f));
  }

  get experts(): number {
    return this.router.shape[0]!;
  }

  /** Bytes of the parameters that `tokens` tokens read, each expert once, when their choices fall evenly. */
  bytesRead(tokens: number): number {
    const reached = 1 - (1 - this.config.chosen / this.experts) ** tokens;
    return this.router.sizeBytes + reached * (this.gateUp.sizeBytes + this.down.sizeBytes);
  }

  /** x [T, C] gives [T, C]. */
  forward(x: Tensor, { residual, norm }: FeedForwardOptions = {}): Tensor {
    const [experts, hiddenSize] = this.router.shape as [number, number];
    if (x.shape.at(-1) !== hiddenSize || x.dtype !== this.router.dtype) {
      throw new ShapeError(
        `MixtureOfExperts: input must be [..., ${hiddenSize}] ${this.router.dtype.name}, got ${formatShape(x.shape)} ${x.dtype.name}`,
      );
    }
    const out = residual ?? Tensor.empty(x.shape, { dtype: x.dtype, device: x.device });
    if (out.size !== x.size) {
      throw new ShapeError(
        `MixtureOfExperts: residual ${formatShape(out.shape)} must have the shape of the input, ${formatShape(x.shape)}`,
      );
    }
    tidy(() => this.#apply(x.contiguous(), norm, out, residual, x.size / hiddenSize, experts));
    return out;
  }

  #apply(
    input: Tensor,
    norm: RMSNorm | undefined,
    out: Tensor,
    residual: Tensor | undefined,
    tokens: number,
    experts: number,
  ): void {
    const { chosen, normalize, activation } = this.config;
    const { device, dtype } = input;
    const { stream } = device;
    const hiddenSize = this.router.shape[1]!;
    const intermediateSize = this.down.shape.at(-1)!;
    const slots = tokens * chosen;
    const vector = [hiddenSize, intermediateSize].every((size) => (size * dtype.bytes) % 16 === 0);
    const short = floatVariant("MixtureOfExperts", dtype).dtype;
    const gateUp = { n: intermediateSize, k: hiddenSize, gate: activation, dtype } as const;
    const down = { n: hiddenSize, k: intermediateSize, dtype } as const;
    const quantized = this.#quantized(device, gateUp, down);
    const shape = { tokens, chosen, experts, dtype: short, vector, ...(quantized && { quantized }) };
    const plan = planExperts(shape, expertsMachine(device));
    const empty = (shape: number[], type: DType | "float32" | "int32") => Tensor.empty(shape, { dtype: type, device });

    const ids = empty([tokens, chosen], "int32");
    const weights = empty([tokens, chosen], "float32");
    const order = empty([slots], "int32");
    const table = empty([groupTableInts(slots, experts, plan.groupRows)], "int32");
    const router = { experts, chosen, cols: hiddenSize, dtype, router: this.router.ptr };
    const choice = { ids: ids.ptr, weights: weights.ptr, order: order.ptr, table: table.ptr, normalize };
    let x = input;
    const fewRows = plan.kernel === "gemv" || plan.kernel === "gemv_mma";
    if (tokens === 1 && fewRows && !this.onRouterLogits && canRouteOne(device, router)) {
      if (norm) x = empty([1, hiddenSize], dtype);
      routeOne(stream, {
        ...router,
        ...choice,
        x: input.ptr,
        ...(norm && { norm: { out: x.ptr, weight: norm.weight.ptr, eps: norm.eps, weightOffset: norm.weightOffset } }),
      });
    } else {
      if (norm) x = norm.forward(input);
      const logits = empty([tokens, experts], "float32");
      routerLogits(stream, {
        logits: logits.ptr,
        x: x.ptr,
        weight: this.router.ptr,
        kernel: plan.kernel,
        tokens,
        experts,
        cols: hiddenSize,
        dtype,
      });
      this.onRouterLogits?.(logits);
      routeExperts(stream, {
        ...choice,
        logits: logits.ptr,
        tokens,
        experts,
        chosen,
        groupRows: plan.groupRows,
      });
    }

    const common = {
      plan,
      order: order.ptr,
      table: table.ptr,
      slots,
      chosen,
      experts,
      dtype,
    } satisfies Partial<GroupedProductArgs>;
    const hidden = empty([slots, intermediateSize], dtype);
    multiply(stream, this.gateUp, { ...common, ...gateUp, out: hidden.ptr, a: x.ptr, share: chosen });
    // In float32, so that a token's k results are rounded once, when they have been added.
    const results = empty([slots, hiddenSize], "float32");
    multiply(stream, this.down, {
      ...common,
      ...down,
      out: results.ptr,
      outDtype: results.dtype,
      a: hidden.ptr,
      share: 1,
      followsProduct: true,
    });
    combineExperts(stream, {
      out: out.ptr,
      ...(residual && { residual: residual.ptr }),
      y: results.ptr,
      weights: weights.ptr,
      tokens,
      cols: hiddenSize,
      chosen,
      dtype,
    });
  }

  /** What planExperts wants to know of quantized weights. */
  #quantized(
    device: Device,
    gateUp: Omit<QuantProductShape, "weight">,
    down: Omit<QuantProductShape, "weight">,
  ): "multiplied" | "dequantized" | undefined {
    const products = [
      [this.gateUp, gateUp],
      [this.down, down],
    ] as const;
    const shapes = products.flatMap(([weight, shape]) =>
      weight instanceof QuantizedWeight ? [{ ...shape, weight: weight.data }] : [],
    );
    if (shapes.length === 0) return undefined;
    return shapes.every((shape) => multipliesQuantized(device, shape)) ? "multiplied" : "dequantized";
  }
}

/** Whether a weight is that of E experts, [rows, cols] each. */
function areExperts(weight: Tensor | QuantizedWeight, experts: number, rows: number, cols: number): boolean {
  const isQuantized = weight instanceof QuantizedWeight;
  if (isQuantized && !endsWithBlock(weight.data, rows * cols)) return false;
  const shape = isQuantized ? [experts * rows, cols] : [experts, rows, cols];
  return weight.shape.length === shape.length && shape.every((size, i) => size === weight.shape[i]);
}

function multiply(stream: Stream, weight: Tensor | QuantizedWeight, p: Omit<GroupedProductArgs, "b">): void {
  if (weight instanceof QuantizedWeight) groupedQuantProduct(stream, { ...p, weight: weight.data });
  else groupedProduct(stream, { ...p, b: weight.ptr });
}
