import { join } from "node:path";
import { FileError, UnsupportedError } from "../../base/errors.ts";
import {
  count,
  type FieldSource,
  type FieldType,
  fieldError,
  flag,
  nested,
  nonNegativeInteger,
  nonNegativeNumber,
  readField,
  requireField,
  text,
  texts,
} from "../config/fields.ts";
import { listDirectory } from "../directory.ts";
import { describeJson, type JsonObject, readJsonFile } from "../json.ts";
import { modulePattern } from "./module-pattern.ts";

export const adapterConfigFile = "adapter_config.json";

/** adapter_config.json of a LoRA adapter, as far as it says how the weights are applied. */
export interface AdapterConfig {
  readonly file: string;
  /** The name or path of the model that the adapter was trained on, as the file has it. */
  readonly baseModel: string | undefined;
  /** What training was pointed at: names of modules, or an expression. Which are adapted, the weights decide. */
  readonly targetModules: readonly string[] | string;
  /** Modules that were trained whole. */
  readonly modulesToSave: readonly string[];
  readonly useDora: boolean;
  /** Whether B has a bias of its own (`lora_bias`). */
  readonly loraBias: boolean;
  /** Tokens whose rows of a module, embedding or head, were trained, in the order of the rows (`trainable_token_indices`). */
  tokensOf(module: string): readonly number[] | undefined;
  /** The rank of a module, by `rank_pattern`, else `r`. */
  rankOf(module: string): number;
  /** What B·A is multiplied by: alpha / r, or alpha / √r for rank-stabilised LoRA. */
  scaleOf(module: string): number;
}

/** Reads adapter_config.json of an adapter's directory. Throws FileError, FormatError, or UnsupportedError for other kinds of adapter. */
export function readAdapterConfig(directory: string): AdapterConfig {
  if (!listDirectory(directory).includes(adapterConfigFile)) {
    throw new FileError(directory, `${directory}: there is no ${adapterConfigFile}; this is not an adapter`);
  }
  const file = join(directory, adapterConfigFile);
  return parseAdapterConfig(readJsonFile(file, "the adapter's config"), file);
}

export function parseAdapterConfig(json: JsonObject, file: string): AdapterConfig {
  const source: FieldSource = { file, prefix: "", json };
  refuseOthers(source);
  const rank = requireField(source, "r", count);
  const alpha = readField(source, "lora_alpha", nonNegativeNumber, 8);
  const useRslora = readField(source, "use_rslora", flag, false);
  const ranks = readPattern(source, "rank_pattern", count);
  const alphas = readPattern(source, "alpha_pattern", nonNegativeNumber);
  const rankOf = (module: string) => ranks(module) ?? rank;
  return {
    file,
    baseModel: readField(source, "base_model_name_or_path", text, undefined) || undefined,
    targetModules: readTargetModules(source),
    modulesToSave: readField(source, "modules_to_save", texts, []),
    useDora: readField(source, "use_dora", flag, false),
    loraBias: readField(source, "lora_bias", flag, false),
    tokensOf: readTokens(source),
    rankOf,
    scaleOf: (module) => {
      const r = rankOf(module);
      return (alphas(module) ?? alpha) / (useRslora ? Math.sqrt(r) : r);
    },
  };
}

/** Fields that, when they are set, make of LoRA something else than a product of two matrices beside a weight. */
const otherKinds = [
  "alora_invocation_tokens",
  "arrow_config",
  "kasa_config",
  "layer_replication",
  "monteclora_config",
  "use_bdlora",
  "use_qalora",
] as const;

/** Parameters of which all experts of a layer share one, as transformers 5 holds them. */
const expertParameter = /(^|\.)experts\.(gate_up_proj|down_proj)$/;

/** Initialisations that change the base model as well: on the published base such an adapter is wrong. */
const baseChanging = /^(pissa|olora|corda|loftq)/i;

function refuseOthers(source: FieldSource): void {
  const { file, json } = source;
  const type = requireField(source, "peft_type", text);
  if (type.toUpperCase() !== "LORA") {
    throw new UnsupportedError(`${file}: peft_type ${describeJson(type)} is not supported; llcuda reads LORA adapters`);
  }
  for (const name of otherKinds) {
    const value = Object.hasOwn(json, name) ? json[name] : undefined;
    const isUnset = value === undefined || value === null || value === false;
    const isEmpty = Array.isArray(value) && value.length === 0;
    if (!isUnset && !isEmpty) {
      throw new UnsupportedError(`${file}: ${name} is ${describeJson(value)}, which llcuda does not support`);
    }
  }
  const others = readField(source, "target_parameters", texts, []).filter((name) => !expertParameter.test(name));
  if (others.length > 0) {
    throw new UnsupportedError(
      `${file}: target_parameters names ${describeJson(others)}; llcuda supports experts.gate_up_proj and experts.down_proj there`,
    );
  }
  const init = json.init_lora_weights;
  if (typeof init === "string" && baseChanging.test(init)) {
    throw new UnsupportedError(
      `${file}: init_lora_weights is ${describeJson(init)}: training began by changing the base model, so the adapter does not fit the published one; save it with path_initial_model_for_weight_conversion`,
    );
  }
}

function readTargetModules(source: FieldSource): readonly string[] | string {
  const value = source.json.target_modules;
  return typeof value === "string" ? value : readField(source, "target_modules", texts, []);
}

const tokenList: FieldType<readonly number[]> = {
  expected: "a list of token ids",
  accepts: (value): value is readonly number[] =>
    Array.isArray(value) && value.every((id) => nonNegativeInteger.accepts(id)),
};

/** A list is for the embedding, whatever its name; an object has one for each module. */
function readTokens(source: FieldSource): (module: string) => readonly number[] | undefined {
  const name = "trainable_token_indices";
  if (Array.isArray(source.json[name])) {
    const all = requireField(source, name, tokenList);
    return () => all;
  }
  const byModule = nested(source, name);
  const lists = Object.keys(byModule?.json ?? {}).map((key) => [key, requireField(byModule!, key, tokenList)] as const);
  return (module) => lists.find(([key]) => module === key || module.endsWith(`.${key}`))?.[1];
}

/** A map from modules, by name or expression, to numbers; the first that matches counts, as in PEFT. */
function readPattern(
  source: FieldSource,
  name: string,
  wanted: { readonly expected: string; accepts(value: unknown): value is number },
): (module: string) => number | undefined {
  const pattern = nested(source, name);
  if (!pattern) return () => undefined;
  const rows = Object.entries(pattern.json).map(([key, value]) => {
    if (!wanted.accepts(value)) throw fieldError(pattern, key, value, wanted.expected);
    return { matches: modulePattern(key, `${source.file}: ${name}`), value };
  });
  return (module) => rows.find(({ matches }) => matches(module))?.value;
}
