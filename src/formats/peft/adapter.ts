import { existsSync } from "node:fs";
import { join } from "node:path";
import { FileError, FormatError, UnsupportedError } from "../../base/errors.ts";
import { formatShape } from "../../base/shape.ts";
import { describeJson } from "../json.ts";
import { openFiles } from "../safetensors/checkpoint.ts";
import type { TensorInfo, WeightSource } from "../weight-source.ts";
import { type AdapterConfig, readAdapterConfig } from "./adapter-config.ts";

export const adapterWeightsFile = "adapter_model.safetensors";

/** One adapted module: its weight becomes W + scale · B·A, its bias b + scale · bias. */
export interface LoraModule {
  /** As in the base checkpoint, without `.weight`: `model.layers.0.self_attn.q_proj`. */
  readonly name: string;
  /**
   * Of an embedding [V, C], A is [r, V] and B is [C, r]: its rows are those of (B·A)ᵀ. Of the experts of a layer, which share
   * one parameter [E, out, in], A is [E·r, in], expert after expert, and B is [out, r·E], where experts lie side by side.
   */
  readonly kind: "linear" | "embedding" | "experts";
  readonly rank: number;
  readonly scale: number;
  /** [r, in]. */
  readonly a: TensorInfo;
  /** [out, r]. */
  readonly b: TensorInfo;
  /** [out], where B has a bias (`lora_bias`). */
  readonly bias: TensorInfo | undefined;
  /** DoRA: [out], the norm that each row of W + scale · B·A is brought to. */
  readonly magnitude: TensorInfo | undefined;
}

/** Rows of an embedding or a head that were trained each by itself: they take the place of the base's. */
export interface TokenRows {
  /** As in the base checkpoint, without `.weight`. */
  readonly name: string;
  readonly tokens: readonly number[];
  /** [tokens, C]. */
  readonly rows: TensorInfo;
}

/** A LoRA adapter on disk, open for reading. */
export class LoraAdapter {
  readonly directory: string;
  readonly config: AdapterConfig;
  /** By module, in the order of the file. */
  readonly modules: ReadonlyMap<string, LoraModule>;
  /** Weights that take the place of the base's: modules trained whole, and biases. Names as in the base checkpoint. */
  readonly replaced: ReadonlyMap<string, TensorInfo>;
  /** Where embedding and head are one weight in the base, those of the embedding are for both, unless the head has its own. */
  readonly tokens: readonly TokenRows[];
  /** Where the tensors above are read from. */
  readonly source: WeightSource;

  /**
   * Opens an adapter as PEFT saves it: adapter_config.json and adapter_model.safetensors. What is adapted is decided by the
   * tensors that are there. Throws FileError, FormatError where config and tensors disagree, or UnsupportedError.
   */
  static open(directory: string): LoraAdapter {
    const config = readAdapterConfig(directory);
    const source = openWeights(directory);
    try {
      return new LoraAdapter(directory, config, source);
    } catch (error) {
      source.close();
      throw error;
    }
  }

  private constructor(directory: string, config: AdapterConfig, source: WeightSource) {
    this.directory = directory;
    this.config = config;
    this.source = source;
    const { parts, replaced, tokens } = sort(source);
    this.replaced = replaced;
    this.tokens = [...tokens].map(([name, rows]) => tokenRows(name, rows, config));
    this.modules = new Map([...parts].map(([name, found]) => [name, assemble(name, found, config)]));
    if (this.modules.size === 0 && replaced.size === 0 && tokens.size === 0) {
      const file = join(directory, adapterWeightsFile);
      throw new FormatError(
        file,
        `${file}: there is nothing in it: neither lora_A and lora_B of a module nor a weight`,
      );
    }
  }

  close(): void {
    this.source.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function openWeights(directory: string): WeightSource {
  const file = join(directory, adapterWeightsFile);
  if (existsSync(file)) return openFiles([file]);
  if (existsSync(join(directory, "adapter_model.bin"))) {
    throw new UnsupportedError(
      `${directory}: the adapter's weights are in adapter_model.bin; save them as safetensors (save_pretrained does)`,
    );
  }
  throw new FileError(file, `${directory}: there is no ${adapterWeightsFile}; download the adapter's weights`);
}

type Role = "a" | "b" | "bias" | "magnitude";
/** What is known of one module, while its tensors are gathered. */
type Parts = { kind: LoraModule["kind"] } & { [role in Role]?: TensorInfo };

const roles: Readonly<Record<string, readonly [Role, LoraModule["kind"] | undefined]>> = {
  "lora_A.weight": ["a", "linear"],
  "lora_B.weight": ["b", "linear"],
  "lora_B.bias": ["bias", "linear"],
  lora_embedding_A: ["a", "embedding"],
  lora_embedding_B: ["b", "embedding"],
  lora_magnitude_vector: ["magnitude", undefined],
  "lora_magnitude_vector.weight": ["magnitude", undefined],
};

interface Sorted {
  readonly parts: Map<string, Parts>;
  readonly replaced: Map<string, TensorInfo>;
  readonly tokens: Map<string, TensorInfo>;
}

/** Tells the tensors of LoRA from weights that replace the base's, and takes off what PEFT wraps around names. */
function sort(source: WeightSource): Sorted {
  const parts = new Map<string, Parts>();
  const replaced = new Map<string, TensorInfo>();
  const tokens = new Map<string, TensorInfo>();
  for (const info of source.tensors.values()) {
    const name = info.name
      .replace(/^base_model\.model\./, "")
      // The two parameters of a layer's experts are told apart by it.
      .replace(/\.(?:default|modules_to_save|token_adapter|(?<!\.experts\.)base_layer)(?=\.|$)/g, "");
    const match = /^(.+)\.(lora_\w+(?:\.(?:weight|bias))?)$/.exec(name);
    const trained = /^(.+)\.trainable_tokens_delta$/.exec(name)?.[1];
    const role = match && Object.hasOwn(roles, match[2]!) ? roles[match[2]!] : undefined;
    if (match && role) {
      const [slot, kind] = role;
      const module = parts.get(match[1]!) ?? { kind: kind ?? "linear" };
      const own = kind === "linear" && /\.experts(\.base_layer)?$/.test(match[1]!) ? "experts" : kind;
      parts.set(match[1]!, { ...module, ...(own && { kind: own }), [slot]: once(info, module[slot]) });
    } else if (trained !== undefined) {
      tokens.set(trained, once(info, tokens.get(trained)));
    } else if (!match && /\.(weight|bias)$/.test(name)) {
      replaced.set(name, once(info, replaced.get(name)));
    } else {
      throw new UnsupportedError(`${info.file}: llcuda does not know what tensor ${describeJson(info.name)} does`);
    }
    if (!info.elementType?.isFloat) {
      throw new UnsupportedError(`${info.file}: tensor ${describeJson(info.name)} is of type ${info.dtype}, no float`);
    }
  }
  return { parts, replaced, tokens };
}

function tokenRows(name: string, rows: TensorInfo, config: AdapterConfig): TokenRows {
  const tokens = config.tokensOf(name);
  if (tokens && rows.shape.length === 2 && rows.shape[0] === tokens.length) return { name, tokens, rows };
  throw new FormatError(
    rows.file,
    `${rows.file}: "${rows.name}" is ${formatShape(rows.shape)}, but trainable_token_indices of ${config.file} names ${tokens ? `${tokens.length} tokens` : "no tokens"} for ${name}`,
  );
}

function once(info: TensorInfo, other: TensorInfo | undefined): TensorInfo {
  if (!other) return info;
  throw new FormatError(
    info.file,
    `${info.file}: ${describeJson(other.name)} and ${describeJson(info.name)} are the same`,
  );
}

function assemble(name: string, { kind, a, b, bias, magnitude }: Parts, config: AdapterConfig): LoraModule {
  const { file } = (a ?? b ?? bias ?? magnitude)!;
  const fail = (problem: string): never => {
    throw new FormatError(file, `${file}: ${name} ${problem}`);
  };
  if (!a || !b) return fail(`has ${a ? "lora_A but no lora_B" : "no lora_A"}; is the adapter complete?`);
  const rank = config.rankOf(name);
  const isMatrix = a.shape.length === 2 && b.shape.length === 2;
  if (kind === "experts") {
    if (!isMatrix || a.shape[0] !== b.shape[1] || a.shape[0]! % rank !== 0) {
      fail(
        `has A ${formatShape(a.shape)} and B ${formatShape(b.shape)}; ${config.file} gives each expert rank ${rank}: [E · ${rank}, in] and [out, E · ${rank}]`,
      );
    }
  } else if (!isMatrix || a.shape[0] !== rank || b.shape[1] !== rank) {
    fail(
      `has A ${formatShape(a.shape)} and B ${formatShape(b.shape)}; ${config.file} gives it rank ${rank}: [${rank}, in] and [out, ${rank}]`,
    );
  }
  if (config.loraBias !== (bias !== undefined) && kind === "linear") {
    fail(config.loraBias ? "has no bias, which lora_bias calls for" : "has a bias of lora_B, but lora_bias is false");
  }
  if (bias && (bias.shape.length !== 1 || bias.shape[0] !== b.shape[0])) {
    fail(`has a bias of lora_B ${formatShape(bias.shape)}; expected one number for each of ${b.shape[0]} rows`);
  }
  if (config.useDora !== (magnitude !== undefined) && kind === "linear") {
    fail(
      config.useDora
        ? "has no lora_magnitude_vector, which use_dora calls for"
        : "has a lora_magnitude_vector, but use_dora is false",
    );
  }
  if (magnitude && magnitude.byteLength / magnitude.elementType!.bytes !== b.shape[0]) {
    fail(`has a magnitude vector ${formatShape(magnitude.shape)}; expected one number for each of ${b.shape[0]} rows`);
  }
  return { name, kind, rank, scale: config.scaleOf(name), a, b, bias, magnitude };
}
