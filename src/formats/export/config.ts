import type { DType } from "../../base/dtype.ts";
import type { FourBitType } from "../../base/four-bit.ts";
import { isJsonObject, type JsonObject } from "../json.ts";
import { floatNumeral } from "./numerals.ts";

/** How the weights beside a config.json are stored. */
export interface ExportedStorage {
  /** Of what is not quantized, and of what quantized weights dequantize to. */
  readonly dtype: DType;
  /** Whether a head is stored that the source tied to the embedding. */
  readonly hasOwnHead?: boolean;
  readonly fourBit?: {
    readonly type: FourBitType;
    readonly nested: boolean;
    /** Linear modules that are stored plain, beside the head, which bitsandbytes never quantizes. */
    readonly skipModules: readonly string[];
  };
}

/**
 * The config.json of weights that are stored anew: every field as it was, but the dtype (under the name that the file has for it)
 * and `quantization_config`, which is that of bitsandbytes or gone.
 */
export function exportedConfig(raw: JsonObject, storage: ExportedStorage): JsonObject {
  const { quantization_config: _, compression_config: __, ...rest } = raw;
  const inner = isJsonObject(raw.text_config) ? { text_config: withDType(raw.text_config, storage.dtype, false) } : {};
  return {
    ...withDType(rest, storage.dtype, true),
    ...inner,
    ...(storage.hasOwnHead && { tie_word_embeddings: false }),
    ...(storage.fourBit && { quantization_config: quantizationConfig(storage.dtype, storage.fourBit) }),
  };
}

function withDType(json: JsonObject, { name }: DType, required: boolean): JsonObject {
  const fields = ["dtype", "torch_dtype"].filter((field) => Object.hasOwn(json, field));
  if (fields.length === 0 && required) fields.push("torch_dtype");
  return { ...json, ...Object.fromEntries(fields.map((field) => [field, name])) };
}

/** The fields that transformers writes, and its order. A null list of skipped modules means the head alone. */
function quantizationConfig(dtype: DType, fourBit: NonNullable<ExportedStorage["fourBit"]>): JsonObject {
  const { type, nested, skipModules } = fourBit;
  return {
    _load_in_4bit: true,
    _load_in_8bit: false,
    bnb_4bit_compute_dtype: dtype.name,
    bnb_4bit_quant_storage: "uint8",
    bnb_4bit_quant_type: type,
    bnb_4bit_use_double_quant: nested,
    llm_int8_enable_fp32_cpu_offload: false,
    llm_int8_has_fp16_weight: false,
    llm_int8_skip_modules: skipModules.length === 0 ? null : ["lm_head", ...skipModules],
    llm_int8_threshold: floatNumeral(6), // transformers refuses a whole number
    load_in_4bit: true,
    load_in_8bit: false,
    quant_method: "bitsandbytes",
  };
}
