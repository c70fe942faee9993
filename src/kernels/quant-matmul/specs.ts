import { floatDTypes } from "../float-variant.ts";
import { code4Args } from "../nf4/nf4.ts";
import { type ArgSpec, defineKernel } from "../spec.ts";
import { quantFormats } from "./formats.ts";

/** QUANT_PARAMETERS of quant.cuh: the same for every kernel here. */
const args = {
  out: "ptr",
  a: "ptr",
  weight: "ptr",
  ...code4Args,
  bias: "ptr",
  residual: "ptr",
  m: "i32",
  n: "i32",
  k: "i32",
  flags: "u32",
  lda: "i64",
  ldd: "i64",
  ldr: "i64",
  weightBytes: "i64",
  levelScale: "f32",
} as const satisfies ArgSpec;

export const quantMmaKernel = defineKernel({
  family: "quant_mma",
  source: "quant-matmul/quant-mma.cu",
  args: { ...args, xBytes: "i32" },
  axes: { format: quantFormats, dtype: ["f16", "bf16"], rows: ["8", "16"] },
  targets: ["sm_80", "sm_90"],
});

export const quantGemvKernel = defineKernel({
  family: "quant_gemv",
  source: "quant-matmul/quant-gemv.cu",
  args,
  axes: { format: quantFormats, dtype: floatDTypes, rows: ["1", "8"] },
  targets: ["sm_60"],
});
