import type { DType } from "../../base/dtype.ts";
import type { DevicePtr } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { floatDTypes, floatTargets, floatVariant } from "../float-variant.ts";
import { launch } from "../library.ts";
import { defineKernel } from "../spec.ts";

export const embeddingKernel = defineKernel({
  family: "embedding",
  source: "embedding/embedding.cu",
  args: { out: "ptr", table: "ptr", ids: "ptr", tokens: "i32", cols: "i32", vocab: "i32", scale: "f32" },
  axes: { dtype: floatDTypes },
  targets: floatTargets,
});

export interface EmbeddingArgs {
  /** [T, C], contiguous. */
  readonly out: DevicePtr;
  /** [V, C], contiguous. */
  readonly table: DevicePtr;
  /** i32 [T]. An id outside 0 <= id < V gives a row of NaN and reads nothing. */
  readonly ids: DevicePtr;
  readonly tokens: number;
  readonly cols: number;
  readonly vocab: number;
  /** Multiplies every element, in float32; default 1, which copies the bits. */
  readonly scale?: number;
  /** Of `out` and `table`. */
  readonly dtype: DType;
}

/** out[t, :] = table[ids[t], :] * scale. */
export function embedding(stream: Stream, p: EmbeddingArgs): void {
  if (p.tokens === 0 || p.cols === 0) return;
  // One 16-byte vector a thread for short rows, more for long ones.
  const vectors = Math.ceil((p.cols * p.dtype.bytes) / 16);
  launch(
    stream,
    embeddingKernel,
    floatVariant("embedding", p.dtype),
    { grid: [p.tokens], block: Math.min(512, Math.ceil(vectors / 32) * 32) },
    {
      out: p.out,
      table: p.table,
      ids: p.ids,
      tokens: p.tokens,
      cols: p.cols,
      vocab: p.vocab,
      scale: p.scale ?? 1,
    },
    { overlap: true },
  );
}
