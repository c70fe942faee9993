import type { DType } from "../base/dtype.ts";
import { DTypeError } from "../base/errors.ts";
import type { Target } from "./spec.ts";

/** The axis of kernels that exist for every floating dtype. */
export const floatDTypes = ["f32", "f16", "bf16"] as const;
export type FloatVariant = { readonly dtype: (typeof floatDTypes)[number] };

const variants: Readonly<Record<string, FloatVariant>> = {
  f32: { dtype: "f32" },
  f16: { dtype: "f16" },
  bf16: { dtype: "bf16" },
};

/** The variant of a dtype; one object per dtype, so that a launch allocates nothing. Throws DTypeError. */
export function floatVariant(op: string, dtype: DType): FloatVariant {
  const variant = variants[dtype.short];
  if (!variant) throw new DTypeError(`${op}: got ${dtype.name}; use float32, float16 or bfloat16`);
  return variant;
}

/**
 * Where kernels that only load, convert and store differ: sm_80 converts to bf16 in one instruction, and from sm_90 on
 * a launch may overlap the one before it.
 */
export function floatTargets(variant: FloatVariant): readonly Target[] {
  return variant.dtype === "bf16" ? ["sm_60", "sm_80", "sm_90"] : ["sm_60", "sm_90"];
}
