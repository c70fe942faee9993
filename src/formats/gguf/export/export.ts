import { basename } from "node:path";
import { UnsupportedError } from "../../../base/errors.ts";
import type { GgmlType } from "../../../base/ggml.ts";
import type { ModelFiles } from "../../model-files/model-files.ts";
import { ggufArchitectureOf } from "../architectures.ts";
import type { GgufValue } from "../values.ts";
import { writeGguf } from "../write.ts";
import { modelMetadata, rotaryTensors } from "./metadata.ts";
import { ggufTensors } from "./tensors.ts";
import { templateMetadata, tokenizerMetadata } from "./tokenizer.ts";

/**
 * Writes a model with plain weights as one GGUF file: matrices in `type`, vectors in float32, tokenizer and chat template embedded.
 * Throws UnsupportedError for weights that are quantized already and for what GGUF has no words for, FileError when writing fails.
 */
export function exportGguf(files: ModelFiles, path: string, type: GgmlType): void {
  const config = files.readConfig();
  const [name, architecture] = ggufArchitectureOf(config.modelType, config.source.file);
  const metadata = new Map<string, GgufValue>([
    ...modelMetadata(config, name, { name: basename(files.path), type }),
    ...tokenizerMetadata(files.readTokenizer(), config.vocabSize),
    ...chatTemplates(files),
  ]);
  using weights = files.openWeights();
  const tensors = ggufTensors(weights, { architecture, type, headDim: config.headDim });
  writeGguf(path, metadata, [
    ...tensors.filter((tensor) => !isTiedHead(tensor.name, config)),
    ...rotaryTensors(config),
  ]);
}

/** A head beside tied embeddings would untie them where the file is read. */
function isTiedHead(name: string, { tieWordEmbeddings }: { readonly tieWordEmbeddings: boolean }): boolean {
  return tieWordEmbeddings && name === "output.weight";
}

/** Base models have none. */
function chatTemplates(files: ModelFiles): Map<string, GgufValue> {
  try {
    return templateMetadata(files.readTemplates());
  } catch (error) {
    if (error instanceof UnsupportedError) return new Map();
    throw error;
  }
}
