import { type DType, type DTypeName, dtype } from "../../base/dtype.ts";
import { ArgumentError } from "../../base/errors.ts";
import type { ModelConfig } from "../../formats/config/model-config.ts";
import { type MixtureName, mixtureNames } from "../../formats/gguf/export/mixture.ts";

/** How `savePretrained` stores weights: a float type, or NF4 as bitsandbytes writes it, with double quantization as `nf4-dq`. */
export type CheckpointFormat = "float32" | "float16" | "bfloat16" | "nf4" | "nf4-dq";

export const checkpointFormats: readonly CheckpointFormat[] = ["float32", "float16", "bfloat16", "nf4", "nf4-dq"];

export type Storage =
  | { readonly kind: "float"; readonly dtype: DType }
  | { readonly kind: "nf4"; readonly nested: boolean };

/** What a model is in: NF4 where its config says so or it was quantized on loading, else the dtype that it computes in. */
export function formatOf(
  { quantization }: ModelConfig,
  computed: DType,
  onDevice: ReadonlySet<string> = new Set(),
): CheckpointFormat {
  if (quantization?.method === "bitsandbytes" && quantization.bits === 4 && quantization.quantType === "nf4") {
    return quantization.doubleQuant ? "nf4-dq" : "nf4";
  }
  if (onDevice.has("nf4")) return "nf4";
  return checkpointFormats.find((format) => format === computed.name) ?? "float32";
}

/** Throws ArgumentError that lists the formats. */
export function checkpointStorage(format: string): Storage {
  if (format === "nf4" || format === "nf4-dq") return { kind: "nf4", nested: format === "nf4-dq" };
  if ((checkpointFormats as readonly string[]).includes(format)) {
    return { kind: "float", dtype: dtype(format as DTypeName) };
  }
  throw new ArgumentError(`format "${format}" is not known; use ${checkpointFormats.join(", ")}`);
}

/** How matrices are stored in a GGUF file: the float types, ggml's older block types, and llama.cpp's mixtures of K types. */
export type GgufFormat = (typeof plainGgufFormats)[number] | MixtureName;

const plainGgufFormats = ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1"] as const;
export const ggufFormats: readonly GgufFormat[] = [...plainGgufFormats, ...mixtureNames];

/** Names on the command line that are float types, with what each is in either kind of file. */
const floatNames: Readonly<Record<string, { checkpoint: CheckpointFormat; gguf: GgufFormat }>> = {
  f32: { checkpoint: "float32", gguf: "f32" },
  f16: { checkpoint: "float16", gguf: "f16" },
  bf16: { checkpoint: "bfloat16", gguf: "bf16" },
};
const spellings: Readonly<Record<string, string>> = {
  fp32: "f32",
  float32: "f32",
  fp16: "f16",
  float16: "f16",
  bfloat16: "bf16",
  // As llama.cpp's command has it.
  q3_k: "q3_k_m",
  q4_k: "q4_k_m",
  q5_k: "q5_k_m",
};

/** What the command line takes, in its shortest spellings. */
export const formatNames: readonly string[] = ["fp16", "bf16", "f32", "nf4", "nf4-dq", ...ggufFormats.slice(3)];

/** The format of a folder that a name stands for, or undefined. */
export function checkpointFormatOf(name: string): CheckpointFormat | undefined {
  const canonical = canonicalName(name);
  return floatFormat(canonical)?.checkpoint ?? checkpointFormats.find((format) => format === canonical);
}

/** The format of a GGUF file that a name stands for, or undefined. */
export function ggufFormatOf(name: string): GgufFormat | undefined {
  const canonical = canonicalName(name);
  return ggufFormats.find((format) => format === canonical);
}

function floatFormat(name: string) {
  return Object.hasOwn(floatNames, name) ? floatNames[name] : undefined;
}

/** In lower case, one spelling for each type. */
function canonicalName(name: string): string {
  const lower = name.toLowerCase();
  return Object.hasOwn(spellings, lower) ? spellings[lower]! : lower;
}
