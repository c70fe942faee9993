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

/** Whether a directory holds a PEFT adapter and no model of its own. */
export function isAdapter(directory: string): boolean {
  return existsSync(join(directory, adapterConfigFile)) && !existsSync(join(directory, "config.json"));
}

/**
 * A LoRA adapter together with its base: the base's config and weights, and the adapter's own tokenizer where it was saved
 * with one, since training may have added tokens' meanings or a chat template.
 */
export class AdapterFiles implements ModelFiles {
  readonly form: ModelFiles["form"];
  /** The adapter's directory. */
  readonly path: string;
  readonly base: ModelFiles;
  readonly #text: ModelFiles;

  constructor(directory: string, base: ModelFiles) {
    this.form = base.form;
    this.path = directory;
    this.base = base;
    this.#text = existsSync(join(directory, "tokenizer.json")) ? new HuggingFaceFiles(directory) : base;
  }

  get adapter(): string {
    return this.path;
  }

  get expectedFile(): string {
    return join(this.path, "expected.safetensors");
  }

  readConfig(): ModelConfig {
    return this.base.readConfig();
  }

  readGenerationConfig(): GenerationConfig {
    return this.base.readGenerationConfig();
  }

  readTokenizer(): TokenizerFiles {
    return this.#text.readTokenizer();
  }

  readTemplates(): TemplateSources {
    return this.#text.readTemplates();
  }

  openWeights(): WeightSource {
    return this.base.openWeights();
  }
}

/** The directories and files that a model is read from. */
export function sourcePaths(files: ModelFiles): string[] {
  return files instanceof AdapterFiles ? [files.path, ...sourcePaths(files.base)] : [files.path];
}
