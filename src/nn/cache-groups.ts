import { ShapeError } from "../base/errors.ts";
import type { KvCacheShape } from "./kv-cache.ts";

/** Layers that see equally far back, and therefore keep the same tokens. */
export interface CacheGroup {
  /** Tokens that these layers see, the newest included; 0 for all. */
  readonly window: number;
  readonly layers: readonly number[];
}

/** The groups of a cache: one for each window that its layers have, in the order of their first layers. */
export function cacheGroups(shape: Pick<KvCacheShape, "layers" | "windows">): CacheGroup[] {
  const windows = shape.windows ?? new Array<number>(shape.layers).fill(0);
  if (windows.length !== shape.layers) {
    throw new ShapeError(
      `cacheGroups: windows must name one for each of ${shape.layers} layers, got ${windows.length}`,
    );
  }
  return [...new Set(windows)].map((window) => ({
    window,
    layers: windows.flatMap((own, layer) => (own === window ? [layer] : [])),
  }));
}

/** Bytes of one token's keys and values in `layers` layers. */
export function kvBytesPerToken(shape: KvCacheShape, layers = shape.layers): number {
  return 2 * layers * shape.kvHeads * shape.headDim * shape.dtype.bytes;
}

/** Bytes of the keys and values that the layers together see of a sequence of `tokens` tokens: what a decode step reads. */
export function visibleKvBytes(shape: KvCacheShape, tokens: number): number {
  return cacheGroups(shape)
    .map(({ window, layers }) => kvBytesPerToken(shape, layers.length) * (window ? Math.min(window, tokens) : tokens))
    .reduce((sum, bytes) => sum + bytes, 0);
}
