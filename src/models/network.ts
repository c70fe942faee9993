import type { DType } from "../base/dtype.ts";
import type { Device } from "../driver/device.ts";
import type { ForwardContext } from "../nn/forward-context.ts";
import type { KvCacheShape } from "../nn/kv-cache.ts";
import type { Module } from "../nn/module.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { LoadedParameters } from "./loaded-parameters.ts";

/** What the engine needs of an architecture: token ids to hidden states, hidden states to logits. */
export interface CausalNetwork extends Module {
  readonly device: Device;
  readonly dtype: DType;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  /** The most tokens a sequence may have (`max_position_embeddings`). */
  readonly contextLength: number;
  readonly cacheShape: KvCacheShape;
  /** When a sequence grows beyond this many tokens, the cache must be filled anew; undefined when it never must. */
  readonly keysHoldUpTo: number | undefined;
  /** Where the checkpoint's tensors are, of a network that was loaded from one. */
  loaded?: LoadedParameters;
  /** ids [T] int32 gives hidden states [T, C], normed and ready for `logits`; keys and values go into the cache. */
  forward(ids: Tensor, context: ForwardContext): Tensor;
  /** hidden [R, C] gives [R, V]. */
  logits(hidden: Tensor): Tensor;
}
