import { ptrAdd } from "../driver/api.ts";
import type { Device } from "../driver/device.ts";
import { attentionWorkspaceBytes, pagedAttention } from "../kernels/attention/attention.ts";
import type { AttentionShape } from "../kernels/attention/plan.ts";
import { ropeStore } from "../kernels/kv-cache/kv-cache.ts";
import { Tensor } from "../tensor/tensor.ts";
import type { ForwardContext } from "./forward-context.ts";
import type { Linear } from "./linear.ts";
import { loadStackedLinear } from "./load-linear.ts";
import { Module } from "./module.ts";
import type { RotaryEmbedding } from "./rotary-embedding.ts";
import type { Weights } from "./weights.ts";

export interface AttentionConfig {
  /** H, G and D. */
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Which layer of the cache is this one's. */
  readonly layer: number;
  /** Multiplies scores; 1/√D unless a family says otherwise. */
  readonly scale?: number;
}

/**
 * Causal grouped-query attention over the paged cache. Queries, keys and values come from one product with a stacked
 * weight [(H + 2G)·D, C]; one kernel rotates them and stores keys and values; then attention reads the cache.
 */
export class Attention extends Module {
  readonly qkv: Linear;
  readonly output: Linear;
  readonly config: AttentionConfig;
  readonly rotary: RotaryEmbedding;

  constructor(qkv: Linear, output: Linear, rotary: RotaryEmbedding, config: AttentionConfig) {
    super();
    this.qkv = qkv;
    this.output = output;
    this.rotary = rotary;
    this.config = config;
  }

  /** From `q_proj`, `k_proj`, `v_proj` and `o_proj` below `weights`. */
  static load(
    weights: Weights,
    rotary: RotaryEmbedding,
    options: AttentionConfig & { hiddenSize: number; qkvBias: boolean; outputBias: boolean },
  ): Attention {
    const { heads, kvHeads, headDim, hiddenSize, qkvBias, outputBias } = options;
    const rows = [heads * headDim, kvHeads * headDim, kvHeads * headDim];
    return new Attention(
      loadStackedLinear(weights, ["q_proj", "k_proj", "v_proj"], rows, hiddenSize, qkvBias),
      loadStackedLinear(weights, ["o_proj"], [hiddenSize], heads * headDim, outputBias),
      rotary,
      options,
    );
  }

  /** x [T, C] normed; adds the result to `residual` [T, C]. */
  forward(x: Tensor, residual: Tensor, context: ForwardContext): void {
    const { heads, kvHeads, headDim, layer } = this.config;
    const { stream, tokens } = context;
    const qkv = this.qkv.forward(x);
    const row = (heads + 2 * kvHeads) * headDim;
    const keys = context.cache.keys[layer]!;
    const values = context.cache.values[layer]!;
    const at = (head: number) => ptrAdd(qkv.ptr, head * headDim * x.dtype.bytes);
    ropeStore(stream, {
      ...this.rotary.angles(context),
      query: qkv.ptr,
      queryStride: row,
      key: at(heads),
      keyStride: row,
      value: at(heads + kvHeads),
      valueStride: row,
      keyCache: keys.ptr,
      valueCache: values.ptr,
      slots: context.slots.ptr,
      tokens,
      heads,
      kvHeads,
      headDim,
      dtype: x.dtype,
    });
    const shape: AttentionShape = {
      sequences: context.sequences,
      maxQuery: context.maxQuery,
      maxContext: context.maxContext,
      minQuery: context.minQuery ?? 0,
      heads,
      kvHeads,
      headDim,
    };
    const mixed = Tensor.empty([tokens, heads * headDim], { dtype: x.dtype, device: x.device });
    const workspace = allocateWorkspace(x.device, attentionWorkspaceBytes(shape));
    pagedAttention(stream, {
      ...shape,
      out: mixed.ptr,
      query: qkv.ptr,
      queryStride: row,
      keyCache: keys.ptr,
      valueCache: values.ptr,
      queryStarts: context.queryStarts.ptr,
      contextLengths: context.contextLengths.ptr,
      blockTable: context.blockTable.ptr,
      maxBlocks: context.blockTable.shape[1]!,
      scale: this.config.scale ?? 1 / Math.sqrt(headDim),
      workspace: workspace.ptr,
      dtype: x.dtype,
    });
    this.output.forward(mixed, { residual });
  }
}

function allocateWorkspace(device: Device, bytes: number): Tensor {
  return Tensor.empty([bytes], { dtype: "uint8", device });
}
