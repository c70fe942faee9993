import type { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";
import type { Attention } from "./attention.ts";
import type { ForwardContext } from "./forward-context.ts";
import { Module } from "./module.ts";
import type { RMSNorm } from "./rms-norm.ts";

/** One layer of a decoder. */
export interface DecoderLayer extends Module {
  /** Updates the residual stream x [T, C] in place. */
  forward(x: Tensor, context: ForwardContext): void;
}

export interface FeedForwardOptions {
  /** [T, C]: the result is added to it. */
  readonly residual?: Tensor;
  /** x is not normed yet: first thing to do. */
  readonly norm?: RMSNorm;
}

/** What follows attention in a layer: a gated MLP, or a mixture of them. */
export interface FeedForward extends Module {
  /** x [T, C] normed gives [T, C]. */
  forward(x: Tensor, options?: FeedForwardOptions): Tensor;
}

/**
 * The layer of Llama and most others, with a norm before each half:
 *
 *     x += attention(norm(x))
 *     x += mlp(norm(x))
 *
 * Both additions happen where the projection's result is rounded, so that they cost no pass over memory of their own.
 */
export class PreNormLayer extends Module implements DecoderLayer {
  readonly attentionNorm: RMSNorm;
  readonly attention: Attention;
  readonly mlpNorm: RMSNorm;
  readonly mlp: FeedForward;

  constructor(parts: { attentionNorm: RMSNorm; attention: Attention; mlpNorm: RMSNorm; mlp: FeedForward }) {
    super();
    this.attentionNorm = parts.attentionNorm;
    this.attention = parts.attention;
    this.mlpNorm = parts.mlpNorm;
    this.mlp = parts.mlp;
  }

  forward(x: Tensor, context: ForwardContext): void {
    tidy(() => {
      this.attention.forward(this.attentionNorm.forward(x), context, x);
      this.mlp.forward(x, { norm: this.mlpNorm, residual: x });
    });
  }
}

/**
 * The layer of Gemma 2 and 3, which norms what each half gives as well as what it takes:
 *
 *     x += norm(attention(norm(x)))
 *     x += norm(mlp(norm(x)))
 */
export class SandwichLayer extends Module implements DecoderLayer {
  readonly attentionNorm: RMSNorm;
  readonly attention: Attention;
  readonly postAttentionNorm: RMSNorm;
  readonly mlpNorm: RMSNorm;
  readonly mlp: FeedForward;
  readonly postMlpNorm: RMSNorm;

  constructor(parts: {
    attentionNorm: RMSNorm;
    attention: Attention;
    postAttentionNorm: RMSNorm;
    mlpNorm: RMSNorm;
    mlp: FeedForward;
    postMlpNorm: RMSNorm;
  }) {
    super();
    this.attentionNorm = parts.attentionNorm;
    this.attention = parts.attention;
    this.postAttentionNorm = parts.postAttentionNorm;
    this.mlpNorm = parts.mlpNorm;
    this.mlp = parts.mlp;
    this.postMlpNorm = parts.postMlpNorm;
  }

  forward(x: Tensor, context: ForwardContext): void {
    tidy(() => {
      const attended = this.attention.forward(this.attentionNorm.forward(x), context);
      this.postAttentionNorm.forward(attended, { residual: x });
      const fed = this.mlp.forward(this.mlpNorm.forward(x));
      this.postMlpNorm.forward(fed, { residual: x });
    });
  }
}
