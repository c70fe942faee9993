import { existsSync } from "node:fs";
import { join } from "node:path";
import type { TemplateSources } from "../chat-template/source.ts";
import type { GenerationConfig } from "../config/generation-config.ts";
import type { ModelConfig } from "../config/model-config.ts";
import { adapterConfigFile } from "../peft/adapter-config.ts";
import type { TokenizerFiles } from "../tokenizer/files.ts";
import type { WeightSource } from "../weight-source.ts";
import { HuggingFaceFiles } from "./hugging-face.ts";
import type { ModelFiles } from "./model-files.ts";
import { ResizedWeights, resizeConfig, resizedVocabulary } from "./resized-vocabulary.ts";

/** Whether a directory holds a PEFT adapter and no model of its own. */
export function isAdapter(directory: string): boolean {
  return existsSync(join(directory, adapterConfigFile)) && !existsSync(join(directory, "config.json"));
}

/**
 * A LoRA adapter together with its base: the base's config and weights, and the adapter's own tokenizer where it was saved
 * with one, since training may have added tokens' meanings or a chat template. Where training changed the size of the vocabulary, the
 * config says so, and embedding and head are the adapter's.
 */
export class AdapterFiles implements ModelFiles {
  readonly form: ModelFiles["form"];
  /** The adapter's directory. */
  readonly path: string;
  readonly base: ModelFiles;
  /** What tokenizer and templates are read from: the adapter's directory or the base. */
  readonly text: ModelFiles;
  #vocabSize: { readonly own: number | undefined } | undefined;

  constructor(directory: string, base: ModelFiles) {
    this.form = base.form;
    this.path = directory;
    this.base = base;
    this.text = existsSync(join(directory, "tokenizer.json")) ? new HuggingFaceFiles(directory) : base;
  }

  get adapter(): string {
    return this.path;
  }

  get expectedFile(): string {
    return join(this.path, "expected.safetensors");
  }

  /** The size of the vocabulary, where it is not the base's. */
  get vocabSize(): number | undefined {
    this.#vocabSize ??= { own: resizedVocabulary(this.path, this.base.readConfig()) };
    return this.#vocabSize.own;
  }

  readConfig(): ModelConfig {
    const config = this.base.readConfig();
    return this.vocabSize === undefined ? config : resizeConfig(config, this.vocabSize);
  }

  readGenerationConfig(): GenerationConfig {
    return this.base.readGenerationConfig();
  }

  readTokenizer(): TokenizerFiles {
    return this.text.readTokenizer();
  }

  readTemplates(): TemplateSources {
    return this.text.readTemplates();
  }

  openWeights(): WeightSource {
    const base = this.base.openWeights();
    if (this.vocabSize === undefined) return base;
    try {
      return new ResizedWeights(base, this.path);
    } catch (error) {
      base.close();
      throw error;
    }
  }
}

/** The directories and files that a model is read from. */
export function sourcePaths(files: ModelFiles): string[] {
  return files instanceof AdapterFiles ? [files.path, ...sourcePaths(files.base)] : [files.path];
}
