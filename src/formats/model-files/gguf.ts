import type { TemplateSources } from "../chat-template/source.ts";
import { type GenerationConfig, parseGenerationConfig } from "../config/generation-config.ts";
import { type ModelConfig, parseModelConfig } from "../config/model-config.ts";
import { ggufConfig } from "../gguf/config.ts";
import type { GgufMetadata } from "../gguf/metadata.ts";
import { GgufParts } from "../gguf/parts.ts";
import { ggufEndTokens, ggufTemplates, ggufTokenizerFiles } from "../gguf/tokenizer.ts";
import { GgufWeights } from "../gguf/weights.ts";
import type { TokenizerFiles } from "../tokenizer/files.ts";
import type { WeightSource } from "../weight-source.ts";
import type { ModelFiles } from "./model-files.ts";

/** A GGUF file, or several parts of one model: config, tokenizer and chat template are in it. */
export class GgufFiles implements ModelFiles {
  readonly form = "gguf";
  readonly path: string;
  #config: ModelConfig | undefined;
  #metadata: GgufMetadata | undefined;

  constructor(path: string) {
    this.path = path;
  }

  get expectedFile(): string {
    return this.path.replace(/\.gguf$/i, ".expected.safetensors");
  }

  readConfig(): ModelConfig {
    if (this.#config) return this.#config;
    using parts = GgufParts.open(this.path);
    this.#metadata = parts.metadata;
    this.#config = parseModelConfig(ggufConfig(parts), this.path);
    return this.#config;
  }

  readGenerationConfig(): GenerationConfig {
    return parseGenerationConfig({ eos_token_id: ggufEndTokens(this.#readMetadata()) }, this.path);
  }

  readTokenizer(): TokenizerFiles {
    return ggufTokenizerFiles(this.#readMetadata());
  }

  readTemplates(): TemplateSources {
    return ggufTemplates(this.#readMetadata());
  }

  openWeights(): WeightSource {
    const parts = GgufParts.open(this.path);
    try {
      return new GgufWeights(parts);
    } catch (error) {
      parts.close();
      throw error;
    }
  }

  /** Metadata is kept, files are not: a tokenizer needs no open file, and no architecture that is known. */
  #readMetadata(): GgufMetadata {
    if (this.#metadata) return this.#metadata;
    using parts = GgufParts.open(this.path);
    this.#metadata = parts.metadata;
    return this.#metadata;
  }
}
