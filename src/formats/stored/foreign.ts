import { UnsupportedError } from "../../base/errors.ts";
import type { QuantizationConfig } from "../config/quantization.ts";
import type { WeightSource } from "../weight-source.ts";

/** A quantization that llcuda does not read, and a tensor that only it has. The first that matches is named. */
const formats: readonly (readonly [format: string, tensor: RegExp])[] = [
  ["bitsandbytes 8-bit (LLM.int8)", /\.(SCB|weight_format)$/],
  ["NVFP4", /\.(weight_global_scale|weight_scale_2)$/],
  ["compressed-tensors", /\.(weight_packed|weight_zero_point)$/],
  ["MXFP4", /(_blocks|_scales)$/],
  ["GPTQ", /\.g_idx$/],
  ["AWQ", /\.qzeros$/],
  ["HQQ", /\.W_q$/],
  ["AQLM", /\.codebooks$/],
  ["FP8", /\.(weight_scale_inv|weight_scale|input_scale)$/],
];

/** How `quant_method` in a config reads in a message; others are named as the config spells them. */
const methods: Readonly<Record<string, string>> = {
  gptq: "GPTQ",
  awq: "AWQ",
  fp8: "FP8",
  fbgemm_fp8: "FP8",
  mxfp4: "MXFP4",
  nvfp4: "NVFP4",
  modelopt: "ModelOpt (FP8 or NVFP4)",
  hqq: "HQQ",
  aqlm: "AQLM",
};

/** The foreign quantization whose tensors a source holds, with one of them, or undefined. */
export function findForeignFormat(source: WeightSource): { format: string; tensor: string } | undefined {
  for (const [format, pattern] of formats) {
    for (const name of source.tensors.keys()) if (pattern.test(name)) return { format, tensor: name };
  }
  for (const { name, dtype, ggml } of source.tensors.values()) {
    if (ggml && !ggml.supported) return { format: `${ggml.name} blocks`, tensor: name };
    if (dtype.startsWith("F8_")) return { format: "FP8", tensor: name };
    if (dtype.startsWith("F4") || dtype.startsWith("F6_")) return { format: dtype, tensor: name };
  }
  return undefined;
}

/** Throws UnsupportedError that names the format when weights are quantized in a way that llcuda does not read. */
export function refuseForeignWeights(source: WeightSource, path: string, config: QuantizationConfig | undefined): void {
  const advice = "use a bitsandbytes 4-bit, GGUF or 16-bit version of the model";
  if (config?.method === "other") {
    const name = methods[config.name.toLowerCase()] ?? config.name;
    throw new UnsupportedError(
      `${path}: the weights are quantized with ${name}, which llcuda does not read; ${advice}`,
    );
  }
  const found = findForeignFormat(source);
  if (!found) return;
  throw new UnsupportedError(
    `${path}: the weights are quantized with ${found.format} (there is a tensor ${found.tensor}), which llcuda does not read; ${advice}`,
  );
}
