import { statSync } from "node:fs";
import { join } from "node:path";
import { ArgumentError, FileError } from "../../base/errors.ts";
import type { TemplateSources } from "../chat-template/source.ts";
import type { GenerationConfig } from "../config/generation-config.ts";
import type { ModelConfig } from "../config/model-config.ts";
import { listDirectory } from "../directory.ts";
import { ggufModels } from "../gguf/parts.ts";
import { isMissing, reasonOf } from "../json.ts";
import type { TokenizerFiles } from "../tokenizer/files.ts";
import type { WeightSource } from "../weight-source.ts";
import { GgufFiles } from "./gguf.ts";
import { HuggingFaceFiles } from "./hugging-face.ts";

/** A model as it lies on disk, whichever form it was downloaded in. Nothing is read before it is asked for. */
export interface ModelFiles {
  readonly form: "huggingface" | "gguf";
  /** The directory, or the GGUF file (of several parts, one): what messages name. */
  readonly path: string;
  /** The directory of the adapter that belongs on the weights, of a model that is given as an adapter. */
  readonly adapter?: string;
  /** Where a reference run of this model is looked for. */
  readonly expectedFile: string;
  readConfig(): ModelConfig;
  readGenerationConfig(): GenerationConfig;
  readTokenizer(): TokenizerFiles;
  /** Throws UnsupportedError when the model has no chat template. */
  readTemplates(): TemplateSources;
  /** Opens the weights, under the names of a HuggingFace checkpoint. Whoever opens them closes them. */
  openWeights(): WeightSource;
}

/**
 * The model at a path: a directory with a HuggingFace checkpoint, a `.gguf` file, or a directory with one GGUF model.
 * Throws FileError when there is nothing of the kind, ArgumentError when a directory holds several GGUF models.
 */
export function findModelFiles(path: string): ModelFiles {
  if (!isDirectory(path)) {
    if (path.toLowerCase().endsWith(".gguf")) return new GgufFiles(path);
    throw new FileError(
      path,
      `${path}: this is a file; give the directory that holds config.json and the weights, or a .gguf file`,
    );
  }
  const entries = listDirectory(path);
  const models = ggufModels(entries);
  // Repositories with GGUF files often have a config.json beside them, but no other weights.
  if (models.length === 0 || entries.some((name) => name.endsWith(".safetensors"))) return new HuggingFaceFiles(path);
  if (models.length === 1) return new GgufFiles(join(path, models[0]!));
  const shown = models.slice(0, 5).join(", ");
  throw new ArgumentError(
    `${path}: there are ${models.length} GGUF models (${shown}${models.length > 5 ? ", …" : ""}); give the path of one of them`,
  );
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch (cause) {
    const problem = isMissing(cause) ? "there is no such file or directory" : `it cannot be read (${reasonOf(cause)})`;
    throw new FileError(path, `${path}: ${problem}`, { cause });
  }
}
