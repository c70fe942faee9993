import type { ModelConfig } from "../config/model-config.ts";
import { isJsonObject, type JsonObject } from "../json.ts";
import { LoraAdapter } from "../peft/adapter.ts";
import type { TensorInfo, WeightSource } from "../weight-source.ts";

/** Tensors with a row for each token, by the ends of their names. */
const tables = ["embed_tokens.weight", "lm_head.weight"] as const;

/**
 * The size of the vocabulary that an adapter was trained with, where that is another than the base's: PEFT then saves embedding and
 * head whole. Throws what LoraAdapter.open throws.
 */
export function resizedVocabulary(directory: string, base: ModelConfig): number | undefined {
  using adapter = LoraAdapter.open(directory);
  const embedding = find(adapter.replaced, tables[0]);
  const rows = embedding?.shape[0];
  const isOther = rows !== undefined && rows > 0 && rows !== base.vocabSize;
  return isOther && embedding?.shape[1] === base.hiddenSize ? rows : undefined;
}

/** A base's config with another size of the vocabulary. */
export function resizeConfig(config: ModelConfig, vocabSize: number): ModelConfig {
  const source = { ...config.source, json: { ...config.source.json, vocab_size: vocabSize } };
  return { ...config, vocabSize, source, raw: resizeRawConfig(config.raw, vocabSize) };
}

/** The same of a config.json as it was parsed. */
export function resizeRawConfig(raw: JsonObject, vocabSize: number): JsonObject {
  const inner = raw.text_config;
  if (isJsonObject(inner)) return { ...raw, text_config: { ...inner, vocab_size: vocabSize } };
  return { ...raw, vocab_size: vocabSize };
}

/** A base's weights with the adapter's embedding and head in place of its own. A head that the base does not have stays away. */
export class ResizedWeights implements WeightSource {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly totalBytes: number;
  readonly #base: WeightSource;
  readonly #adapter: LoraAdapter;
  /** The adapter's tensors by the base's names. */
  readonly #own = new Map<string, TensorInfo>();

  /** Takes the base's weights over. Throws what LoraAdapter.open throws. */
  constructor(base: WeightSource, directory: string) {
    this.#base = base;
    this.#adapter = LoraAdapter.open(directory);
    const tensors = new Map(base.tensors);
    for (const table of tables) {
      const [there, own] = [find(base.tensors, table), find(this.#adapter.replaced, table)];
      if (!there || !own) continue;
      this.#own.set(there.name, own);
      tensors.set(there.name, { ...own, name: there.name });
    }
    this.tensors = tensors;
    this.totalBytes = [...tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  read(name: string): Uint8Array {
    const own = this.#own.get(name);
    return own ? this.#adapter.source.read(own.name) : this.#base.read(name);
  }

  readInto(info: TensorInfo, offset: number, target: Uint8Array): Promise<void> {
    const own = this.#own.get(info.name);
    return own ? this.#adapter.source.readInto(own, offset, target) : this.#base.readInto(info, offset, target);
  }

  readIntoSync(info: TensorInfo, offset: number, target: Uint8Array): void {
    const own = this.#own.get(info.name);
    if (own) this.#adapter.source.readIntoSync(own, offset, target);
    else this.#base.readIntoSync(info, offset, target);
  }

  close(): void {
    this.#base.close();
    this.#adapter.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function find(all: ReadonlyMap<string, TensorInfo>, end: string): TensorInfo | undefined {
  for (const [name, info] of all) if (name === end || name.endsWith(`.${end}`)) return info;
  return undefined;
}
