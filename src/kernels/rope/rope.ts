import type { DType } from "../../base/dtype.ts";
import type { DevicePtr } from "../../driver/api.ts";
import { nullPtr } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { launch } from "../library.ts";
import { defineKernel } from "../spec.ts";

/** Threads of a block, and the head rows of one token that a block rotates. */
export const ropeBlock = { threads: 128, heads: 8 } as const;

export const ropeKernel = defineKernel({
  family: "rope",
  source: "rope/rope.cu",
  args: {
    out: "ptr",
    x: "ptr",
    outStride: "i64",
    stride: "i64",
    positions: "ptr",
    frequencies: "ptr",
    queryStarts: "ptr",
    sequenceLengths: "ptr",
    sequences: "i32",
    dynamicFactor: "f32",
    trainedContext: "i32",
    attentionScale: "f32",
    heads: "i32",
    headDim: "i32",
    rotaryDim: "i32",
  },
  axes: { dtype: ["f32", "f16", "bf16"] },
  targets: (v) => (v.dtype === "bf16" ? ["sm_60", "sm_80", "sm_90"] : ["sm_60", "sm_90"]),
});

/**
 * Frequencies that depend on how long the sequence is. A sequence of S tokens that has passed `trainedContext` uses, with
 * a `factor` (rope_type "dynamic"), frequency i times (factor·S/trainedContext - (factor - 1))^(-2i/(rotaryDim - 2)), see
 * dynamicFrequencyFactor in src/nn/rope-frequencies.ts; without one ("longrope") a table of its own, which stands behind
 * the first. Lengths are read on the device, so a replayed graph follows them.
 */
export interface RopeByLength {
  readonly factor?: number | undefined;
  readonly trainedContext: number;
  /** i32 [B + 1] and [B]: which sequence a token belongs to, and how long that is. */
  readonly queryStarts: DevicePtr;
  readonly sequenceLengths: DevicePtr;
  readonly sequences: number;
}

/** The angles: shared by rope() and ropeStore(). */
export interface RopeAngles {
  /** i32 [T], from 0. */
  readonly positions: DevicePtr;
  /** f32 [rotaryDim / 2], radians per position, or two such tables; may be null (0) when rotaryDim is 0. */
  readonly frequencies: DevicePtr;
  /** Multiplies cos and sin; 1 but for yarn and longrope. */
  readonly attentionScale: number;
  /** Leading elements of a head that are rotated: even, at most headDim; the others pass through. 0 rotates nothing. */
  readonly rotaryDim: number;
  readonly byLength?: RopeByLength;
}

export interface RopeArgs extends RopeAngles {
  /** [T, heads, headDim]; the same address as x for in place. */
  readonly out: DevicePtr;
  readonly x: DevicePtr;
  /** Elements from one token's row to the next; heads of a row are contiguous. Default heads · headDim. */
  readonly outStride?: number;
  readonly stride?: number;
  readonly tokens: number;
  /** For a fused row of queries and keys, H + G. */
  readonly heads: number;
  readonly headDim: number;
  readonly dtype: DType;
}

/** The kernel arguments that say how to turn; rotaryDim 0 needs no tables. */
export function angleArgs(p: RopeAngles) {
  return {
    positions: p.positions,
    frequencies: p.frequencies,
    queryStarts: p.byLength?.queryStarts ?? nullPtr,
    sequenceLengths: p.byLength?.sequenceLengths ?? nullPtr,
    sequences: p.byLength?.sequences ?? 0,
    dynamicFactor: p.byLength?.factor ?? 0,
    trainedContext: p.byLength?.trainedContext ?? 0,
    attentionScale: p.attentionScale,
    rotaryDim: p.rotaryDim,
  };
}

/**
 * Rotates heads by position: element pairs (i, i + rotaryDim/2) turn by positions[t] · frequencies[i] (half-split, "NeoX"
 * pairing); angles in float32, as transformers computes them. f32, f16 or bf16 storage.
 * Source: RoFormer, arXiv 2104.09864, section 3.4.2.
 */
export function rope(stream: Stream, p: RopeArgs): void {
  if (p.tokens === 0 || p.heads === 0 || p.headDim === 0) return;
  const row = p.heads * p.headDim;
  launch(
    stream,
    ropeKernel,
    { dtype: p.dtype.short as "f32" },
    { grid: [p.tokens, Math.ceil(p.heads / ropeBlock.heads)], block: ropeBlock.threads },
    {
      ...angleArgs(p),
      out: p.out,
      x: p.x,
      outStride: BigInt(p.outStride ?? row),
      stride: BigInt(p.stride ?? row),
      heads: p.heads,
      headDim: p.headDim,
    },
    { overlap: true },
  );
}
