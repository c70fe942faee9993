import type { Tensor } from "../tensor/tensor.ts";
import type { FeedForward, FeedForwardOptions } from "./decoder-layer.ts";
import { loadStackedLinear } from "./load-linear.ts";
import { Module } from "./module.ts";
import type { GateActivation, Projection } from "./projection.ts";
import type { Weights } from "./weights.ts";

/**
 * down(activation(gate(x)) · up(x)). Gate and up run as one product over a stacked weight [2F, C], whose epilogue applies
 * the activation, so that the [T, 2F] intermediate is never stored.
 */
export class GatedMlp extends Module implements FeedForward {
  readonly gateUp: Projection;
  readonly down: Projection;
  readonly activation: GateActivation;

  constructor(gateUp: Projection, down: Projection, activation: GateActivation) {
    super();
    this.gateUp = gateUp;
    this.down = down;
    this.activation = activation;
  }

  /** From `gate_proj`, `up_proj` and `down_proj` below `weights`. */
  static load(
    weights: Weights,
    options: { hiddenSize: number; intermediateSize: number; bias: boolean; activation: GateActivation },
  ): GatedMlp {
    const { hiddenSize: c, intermediateSize: f, bias, activation } = options;
    return new GatedMlp(
      loadStackedLinear(weights, ["gate_proj", "up_proj"], [f, f], c, bias),
      loadStackedLinear(weights, ["down_proj"], [c], f, bias),
      activation,
    );
  }

  /** x [T, C] gives [T, C]. */
  forward(x: Tensor, { residual, norm }: FeedForwardOptions = {}): Tensor {
    const hidden = this.gateUp.forwardGated(norm ? norm.forward(x) : x, this.activation);
    return this.down.forward(hidden, residual ? { residual } : {});
  }
}
