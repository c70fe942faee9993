import { join } from "node:path";
import { readTemplateSources, type TemplateSources } from "../chat-template/source.ts";
import { type GenerationConfig, readGenerationConfig } from "../config/generation-config.ts";
import { type ModelConfig, readModelConfig } from "../config/model-config.ts";
import { openCheckpoint } from "../safetensors/checkpoint.ts";
import { readTokenizerFiles, type TokenizerFiles } from "../tokenizer/files.ts";
import type { WeightSource } from "../weight-source.ts";
import type { ModelFiles } from "./model-files.ts";

/** A directory as transformers saves it: config.json, tokenizer.json, safetensors. */
export class HuggingFaceFiles implements ModelFiles {
  readonly form = "huggingface";
  readonly path: string;

  constructor(directory: string) {
    this.path = directory;
  }

  get expectedFile(): string {
    return join(this.path, "expected.safetensors");
  }

  readConfig(): ModelConfig {
    return readModelConfig(this.path);
  }

  readGenerationConfig(): GenerationConfig {
    return readGenerationConfig(this.path);
  }

  readTokenizer(): TokenizerFiles {
    return readTokenizerFiles(this.path);
  }

  readTemplates(): TemplateSources {
    return readTemplateSources(this.path);
  }

  openWeights(): WeightSource {
    return openCheckpoint(this.path);
  }
}
