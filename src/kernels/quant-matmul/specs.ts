import { floatDTypes } from "../float-variant.ts";
import { ggmlFormats } from "../ggml/ggml.ts";
import { code4Args } from "../nf4/nf4.ts";
import { type ArgSpec, defineKernel } from "../spec.ts";
import { quantFormats } from "./formats.ts";

/** QUANT_PARAMETERS of quant.cuh: the same for every kernel that multiplies with a quantized weight. */
export const quantArgs = {
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

/** `QuantFlags` of quant.cuh; those of matmulFlags besides. */
export const quantFlags = { valuesF16: 1 << 16, valuesBf16: 1 << 17 } as const;

const mmaArgs = { ...quantArgs, slices: "i32", xBytes: "i32" } as const satisfies ArgSpec;

export const code4MmaKernel = defineKernel({
  family: "code4_mma",
  source: "quant-matmul/code4-mma.cu",
  args: mmaArgs,
  // code4_rounded: values are rounded to bfloat16, which a product in float16 can tell.
  axes: { format: ["code4", "code4_rounded"], dtype: ["f16", "bf16"], rows: ["8", "16"] },
  prune: ({ format, dtype }) =>
    format === "code4_rounded" && dtype === "bf16" ? "its own rounding is no finer" : undefined,
  targets: ({ format }) => (format === "code4" ? ["sm_80", "sm_90"] : ["sm_80"]),
});

const commonFormats: readonly string[] = ["q4_0", "q8_0", "q4_k", "q5_k", "q6_k"];

export const ggmlMmaKernel = defineKernel({
  family: "ggml_mma",
  source: "quant-matmul/ggml-mma.cu",
  args: mmaArgs,
  axes: { format: ggmlFormats, dtype: ["f16", "bf16"], rows: ["8", "16"] },
  // sm_90 only adds the overlap with the launch before: for the types that most files are made of.
  targets: ({ format }) => (commonFormats.includes(format) ? ["sm_80", "sm_90"] : ["sm_80"]),
});

export const quantGemvKernel = defineKernel({
  family: "quant_gemv",
  source: "quant-matmul/quant-gemv.cu",
  args: { ...quantArgs, order: "ptr", table: "ptr", share: "i32" },
  axes: { format: quantFormats, dtype: floatDTypes },
  targets: ["sm_60"],
});
