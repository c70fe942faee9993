import { StateError } from "../base/errors.ts";
import { ptrAdd } from "../driver/api.ts";
import type { Device } from "../driver/device.ts";
import { attentionWorkspaceBytes, pagedAttention } from "../kernels/attention/attention.ts";
import type { AttentionShape } from "../kernels/attention/plan.ts";
import { type HeadNorm, ropeStore } from "../kernels/kv-cache/kv-cache.ts";
import { Tensor } from "../tensor/tensor.ts";
import type { CachePages, ForwardContext } from "./forward-context.ts";
import { loadStackedLinear } from "./load-linear.ts";
import { Module } from "./module.ts";
import type { Projection } from "./projection.ts";
import { RMSNorm } from "./rms-norm.ts";
import type { RotaryEmbedding } from "./rotary-embedding.ts";
import { join, type Weights } from "./weights.ts";

export interface AttentionConfig {
  /** H, G and D. */
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Which layer of the cache is this one's. */
  readonly layer: number;
  /** Multiplies scores; 1/√D unless a family says otherwise. */
  readonly scale?: number | undefined;
  /** Scores become softcap · tanh(score / softcap) before they are masked; none when undefined. */
  readonly softcap?: number | undefined;
  /** The token at position p sees the keys p - window + 1 … p; all up to p when undefined. */
  readonly window?: number | undefined;
}

/** RMSNorm over the D elements of every query and of every key head, before they are rotated. */
export interface HeadNorms {
  readonly query: RMSNorm;
  readonly key: RMSNorm;
}

export interface AttentionLoadOptions extends AttentionConfig {
  readonly hiddenSize: number;
  readonly qkvBias: boolean;
  readonly outputBias: boolean;
  /** The heads are normalised by `q_norm` and `k_norm`; `weightOffset` as in RMSNorm. */
  readonly headNorm?: { readonly eps: number; readonly weightOffset?: number } | undefined;
}

/**
 * Causal grouped-query attention over the paged cache. Queries, keys and values come from one product with a stacked
 * weight [(H + 2G)·D, C]; one kernel normalises and rotates them and stores keys and values; then attention reads the
 * cache. Layers may have rotary embeddings of their own (two bases, as in Gemma 3), windows of their own, and so on.
 */
export class Attention extends Module {
  readonly qkv: Projection;
  readonly output: Projection;
  readonly queryNorm?: RMSNorm;
  readonly keyNorm?: RMSNorm;
  readonly config: AttentionConfig;
  readonly rotary: RotaryEmbedding;

  constructor(
    qkv: Projection,
    output: Projection,
    rotary: RotaryEmbedding,
    config: AttentionConfig,
    headNorms?: HeadNorms,
  ) {
    super();
    this.qkv = qkv;
    this.output = output;
    if (headNorms) {
      this.queryNorm = headNorms.query;
      this.keyNorm = headNorms.key;
    }
    this.rotary = rotary;
    this.config = config;
  }

  /** From `q_proj`, `k_proj`, `v_proj` and `o_proj` below `weights`, and `q_norm` and `k_norm` with `headNorm`. */
  static load(weights: Weights, rotary: RotaryEmbedding, options: AttentionLoadOptions): Attention {
    const { heads, kvHeads, headDim, hiddenSize, qkvBias, outputBias, headNorm } = options;
    const rows = [heads * headDim, kvHeads * headDim, kvHeads * headDim];
    const norm = ({ eps, weightOffset }: NonNullable<typeof headNorm>, name: string) => {
      const made = new RMSNorm(weights.tensor(`${name}.weight`, [headDim]), eps, weightOffset);
      made.name = join(weights.prefix, name);
      return made;
    };
    return new Attention(
      loadStackedLinear(weights, ["q_proj", "k_proj", "v_proj"], rows, hiddenSize, qkvBias),
      loadStackedLinear(weights, ["o_proj"], [hiddenSize], heads * headDim, outputBias),
      rotary,
      options,
      headNorm && { query: norm(headNorm, "q_norm"), key: norm(headNorm, "k_norm") },
    );
  }

  /** x [T, C] normed gives [T, C]; with `residual` [T, C], the result is added to it. */
  forward(x: Tensor, context: ForwardContext, residual?: Tensor): Tensor {
    const { heads, kvHeads, headDim, layer } = this.config;
    const { stream, tokens } = context;
    const qkv = this.qkv.forward(x);
    const row = (heads + 2 * kvHeads) * headDim;
    const keys = context.cache.keys[layer]!;
    const values = context.cache.values[layer]!;
    const { slots, blockTable } = this.#pages(context);
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
      slots: slots.ptr,
      tokens,
      heads,
      kvHeads,
      headDim,
      dtype: x.dtype,
      settled: context.settled ?? false,
      ...this.#norm(),
    });
    const shape: AttentionShape = {
      sequences: context.sequences,
      maxQuery: context.maxQuery,
      maxContext: context.maxContext,
      minQuery: context.minQuery ?? 0,
      heads,
      kvHeads,
      headDim,
      window: this.config.window ?? 0,
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
      blockTable: blockTable.ptr,
      maxBlocks: blockTable.shape[1]!,
      scale: this.config.scale ?? 1 / Math.sqrt(headDim),
      softcap: this.config.softcap ?? 0,
      settled: context.settled ?? false,
      workspace: workspace.ptr,
      dtype: x.dtype,
    });
    return this.output.forward(mixed, residual ? { residual } : {});
  }

  /** Throws StateError when the cache keeps less than this layer sees. */
  #pages({ cache, pages }: ForwardContext): CachePages {
    const { layer, window = 0 } = this.config;
    const group = cache.groupOf[layer]!;
    const kept = cache.groups[group]!.window;
    if (kept > 0 && (window === 0 || window > kept)) {
      throw new StateError(
        `Attention: layer ${layer} sees ${window || "all"} tokens, but the cache keeps ${kept} of it; cacheShape.windows must name the layers' own windows`,
      );
    }
    return pages[group]!;
  }

  #norm(): { readonly norm?: HeadNorm } {
    const { queryNorm, keyNorm } = this;
    if (!queryNorm || !keyNorm) return {};
    const { eps, weightOffset } = queryNorm;
    return { norm: { query: queryNorm.weight.ptr, key: keyNorm.weight.ptr, eps, weightOffset } };
  }
}

function allocateWorkspace(device: Device, bytes: number): Tensor {
  return Tensor.empty([bytes], { dtype: "uint8", device });
}
