import { count, type FieldSource, flag, nested, positiveNumber, readField, text, texts } from "./fields.ts";

/** What `quantization_config` says of the weights: enough to load them, or to refuse them by name. */
export type QuantizationConfig =
  | {
      readonly method: "bitsandbytes";
      readonly bits: 4;
      /** `nf4` or `fp4`. */
      readonly quantType: string;
      readonly doubleQuant: boolean;
      /** As the config spells it (`bfloat16`). */
      readonly computeDType: string | undefined;
      /** Modules whose weights are stored plain, by name or by the beginning of it. */
      readonly skipModules: readonly string[];
    }
  | {
      readonly method: "bitsandbytes";
      readonly bits: 8;
      readonly threshold: number;
      readonly skipModules: readonly string[];
    }
  /** Any other method (`gptq`, `awq`, `fp8`, `compressed-tensors`), by name. */
  | { readonly method: "other"; readonly name: string; readonly bits: number | undefined };

/** Reads `quantization_config`; undefined when the weights are not quantized. */
export function readQuantization(config: FieldSource): QuantizationConfig | undefined {
  const source = nested(config, "quantization_config") ?? nested(config, "compression_config");
  if (!source) return undefined;
  const in4Bit = readField(source, "load_in_4bit", flag, false) || readField(source, "_load_in_4bit", flag, false);
  const in8Bit = readField(source, "load_in_8bit", flag, false) || readField(source, "_load_in_8bit", flag, false);
  const method = readField(source, "quant_method", text, in4Bit || in8Bit ? "bitsandbytes" : "unnamed");
  const skipModules = readField(source, "llm_int8_skip_modules", texts, []);
  if (method.startsWith("bitsandbytes") && (in4Bit || method.endsWith("_4bit"))) {
    return {
      method: "bitsandbytes",
      bits: 4,
      quantType: readField(source, "bnb_4bit_quant_type", text, "fp4"),
      doubleQuant: readField(source, "bnb_4bit_use_double_quant", flag, false),
      computeDType: readField(source, "bnb_4bit_compute_dtype", text, undefined),
      skipModules,
    };
  }
  if (method.startsWith("bitsandbytes")) {
    return {
      method: "bitsandbytes",
      bits: 8,
      threshold: readField(source, "llm_int8_threshold", positiveNumber, 6),
      skipModules,
    };
  }
  return { method: "other", name: method, bits: readField(source, "bits", count, undefined) };
}
