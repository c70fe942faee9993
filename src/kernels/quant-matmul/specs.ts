import { floatDTypes } from "../float-variant.ts";
import { ggmlFormats } from "../ggml/ggml.ts";
import { code4Args } from "../nf4/nf4.ts";
import { type ArgSpec, defineKernel, type VariantOf } from "../spec.ts";
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

// code4_rounded: values are rounded to bfloat16, which a product in float16 can tell.
const code4Axes = { format: ["code4", "code4_rounded"], dtype: ["f16", "bf16"], rows: ["8", "16"] } as const;
const code4Prune = ({ format, dtype }: VariantOf<typeof code4Axes>) =>
  format === "code4_rounded" && dtype === "bf16" ? "its own rounding is no finer" : undefined;

export const code4MmaKernel = defineKernel({
  family: "code4_mma",
  source: "quant-matmul/code4-mma.cu",
  args: mmaArgs,
  axes: code4Axes,
  prune: code4Prune,
  // On sm_90 code4_bulk takes all but rows too long for shared memory.
  targets: ["sm_80"],
});

export const code4BulkKernel = defineKernel({
  family: "code4_bulk",
  source: "quant-matmul/code4-bulk.cu",
  args: {
    codes: "tensorMap",
    absmaxMap: "tensorMap",
    ...quantArgs,
    slices: "i32",
    parts: "i32",
    together: "i32",
    resident: "i32",
  },
  axes: code4Axes,
  prune: code4Prune,
  targets: ["sm_90"],
});

const splitArgs = { ...quantArgs, parts: "ptr", splits: "i32" } as const satisfies ArgSpec;

const gemmArgs = {
  ...splitArgs,
  passRows: "i32",
  xStages: "i32",
  wStages: "i32",
} as const satisfies ArgSpec;

export const code4GemmKernel = defineKernel({
  family: "code4_gemm",
  source: "quant-matmul/code4-gemm.cu",
  args: gemmArgs,
  axes: { format: ["code4"], dtype: ["f16", "bf16"] },
  targets: ["sm_80"],
});

/** With Hopper's own instructions. The maps are of x, and of W's bytes; `rows`: the most of x, where it is not 128. */
export const wgmmaArgs = {
  xMap: "tensorMap",
  wMap: "tensorMap",
  ...quantArgs,
  parts: "ptr",
  xStages: "i32",
  wStages: "i32",
} as const satisfies ArgSpec;

export const code4WgmmaKernel = defineKernel({
  family: "code4_wgmma",
  source: "quant-matmul/code4-wgmma.cu",
  args: wgmmaArgs,
  axes: { dtype: ["f16", "bf16"], rows: ["64", "128"] },
  targets: ["sm_90a"],
});

export const ggmlWgmmaKernel = defineKernel({
  family: "ggml_wgmma",
  source: "quant-matmul/ggml-wgmma.cu",
  args: wgmmaArgs,
  // The types that most files are made of.
  axes: { format: ["q4_0", "q8_0", "q4_k", "q5_k", "q6_k"], dtype: ["f16", "bf16"] },
  targets: ["sm_90a"],
});

/** All types in one file: the loop is the same, and what differs is chosen once in 64 elements of K. */
export const ggmlGemmKernel = defineKernel({
  family: "ggml_gemm",
  source: "quant-matmul/ggml-gemm.cu",
  args: { ...gemmArgs, type: "i32", spanBytes: "i32", pitch: "i32" },
  axes: { dtype: ["f16", "bf16"] },
  targets: ["sm_80"],
});

/** Every format in one file, as in ggml_gemm. */
export const quantWmmaKernel = defineKernel({
  family: "quant_wmma",
  source: "quant-matmul/quant-wmma.cu",
  args: { ...splitArgs, type: "i32", spanBytes: "i32" },
  axes: { dtype: ["f16"] },
  targets: ["sm_70"],
});

const fewArgs = { ...quantArgs, slices: "i32", parts: "i32", together: "i32" } as const satisfies ArgSpec;

export const ggmlMmaKernel = defineKernel({
  family: "ggml_mma",
  source: "quant-matmul/ggml-mma.cu",
  args: fewArgs,
  axes: { format: ggmlFormats, dtype: ["f16", "bf16"], rows: ["2", "16"] },
  targets: ["sm_80"],
});

export const ggmlBulkKernel = defineKernel({
  family: "ggml_bulk",
  source: "quant-matmul/ggml-bulk.cu",
  args: { map: "tensorMap", ...fewArgs },
  // The types that most files are made of.
  axes: { format: ["q4_0", "q8_0", "q4_k", "q5_k", "q6_k"], dtype: ["f16", "bf16"], rows: ["2", "8", "16"] },
  targets: ["sm_90"],
});

export const quantGemvKernel = defineKernel({
  family: "quant_gemv",
  source: "quant-matmul/quant-gemv.cu",
  args: { ...quantArgs, order: "ptr", table: "ptr", share: "i32" },
  axes: { format: quantFormats, dtype: floatDTypes },
  targets: ["sm_60"],
});
