import type { DType } from "../../base/dtype.ts";
import type { DevicePtr } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { floatDTypes, floatTargets, floatVariant } from "../float-variant.ts";
import { launch } from "../library.ts";
import { defineKernel } from "../spec.ts";

export const repetitionKernel = defineKernel({
  family: "repetition",
  source: "sampling/repetition.cu",
  args: {
    logits: "ptr",
    seen: "ptr",
    tokens: "ptr",
    steps: "ptr",
    penalties: "ptr",
    stride: "i64",
    vocab: "i32",
    words: "i32",
  },
  axes: { dtype: floatDTypes },
  targets: floatTargets,
});

/** 32-bit words of one row's set of tokens: bit v % 32 of word v / 32. */
export function seenWords(vocab: number): number {
  return Math.ceil(vocab / 32);
}

export interface RepetitionArgs {
  /** [B, V], changed in place. */
  readonly logits: DevicePtr;
  /** Elements from one row to the next; default V. */
  readonly logitsStride?: number;
  /** u32 [B, seenWords(V)]: the tokens of each row's prompt; those that it draws are added. */
  readonly seen: DevicePtr;
  /** i32 [B]: the token that each row drew last; negative for none. */
  readonly tokens: DevicePtr;
  /** u32 [B]: how many it has drawn; with 0, its entry of `tokens` does not count. */
  readonly steps: DevicePtr;
  /** f32 [B], positive; 1 for none. */
  readonly penalties: DevicePtr;
  readonly rows: number;
  readonly vocab: number;
  readonly dtype: DType;
}

/** The logit l of every token that a row has seen becomes l / penalty where l > 0, else l · penalty. Source: arXiv 1909.05858. */
export function penalizeRepetition(stream: Stream, p: RepetitionArgs): void {
  if (p.rows === 0) return;
  const words = seenWords(p.vocab);
  launch(
    stream,
    repetitionKernel,
    floatVariant("penalizeRepetition", p.dtype),
    { grid: [Math.ceil(words / 8), p.rows], block: 256 },
    {
      logits: p.logits,
      seen: p.seen,
      tokens: p.tokens,
      steps: p.steps,
      penalties: p.penalties,
      stride: BigInt(p.logitsStride ?? p.vocab),
      vocab: p.vocab,
      words,
    },
    { overlap: true },
  );
}
