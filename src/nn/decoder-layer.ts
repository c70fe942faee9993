import type { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";
import type { Attention } from "./attention.ts";
import type { ForwardContext } from "./forward-context.ts";
import type { GatedMlp } from "./gated-mlp.ts";
import { Module } from "./module.ts";
import type { RMSNorm } from "./rms-norm.ts";

/**
 * The pre-norm block that Llama, Mistral and Qwen share:
 *
 *     x += attention(norm(x))
 *     x += mlp(norm(x))
 *
 * x [T, C] is the residual stream and is updated in place: both additions happen where the projection's result is
 * rounded, so that they cost no pass over memory of their own.
 */
export class DecoderLayer extends Module {
  readonly attentionNorm: RMSNorm;
  readonly attention: Attention;
  readonly mlpNorm: RMSNorm;
  readonly mlp: GatedMlp;

  constructor(parts: { attentionNorm: RMSNorm; attention: Attention; mlpNorm: RMSNorm; mlp: GatedMlp }) {
    super();
    this.attentionNorm = parts.attentionNorm;
    this.attention = parts.attention;
    this.mlpNorm = parts.mlpNorm;
    this.mlp = parts.mlp;
  }

  forward(x: Tensor, context: ForwardContext): void {
    tidy(() => {
      this.attention.forward(this.attentionNorm.forward(x), x, context);
      this.mlp.forward(this.mlpNorm.forward(x), x);
    });
  }
}
