import { copyFileSync, existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { LlcudaError, UnsupportedError } from "../../base/errors.ts";
import type { TemplateSources } from "../chat-template/source.ts";
import { listDirectory } from "../directory.ts";
import { type JsonObject, readSmallFile } from "../json.ts";
import { AdapterFiles } from "../model-files/adapter.ts";
import type { ModelFiles } from "../model-files/model-files.ts";
import { resizeRawConfig } from "../model-files/resized-vocabulary.ts";
import { systemErrors } from "../replace-file.ts";
import { parseWithNumerals, stringifyWithNumerals, withFloatNumerals } from "./numerals.ts";

/** What belongs to a checkpoint beside config and weights: the tokenizer in all its forms, and the terms of use. */
const copied = new Set([
  ...["generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"],
  ...["added_tokens.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt", "tekken.json"],
  ...["chat_template.jinja", "chat_template.json", "preprocessor_config.json", "processor_config.json"],
]);
const terms = /^(LICENSE|LICENCE|NOTICE|USE_POLICY)(\.\w+)?$/i;
const moreTemplates = "additional_chat_templates";

/** Writes a JSON file as transformers does; numbers may be marked. */
export function writeJson(path: string, json: JsonObject): void {
  systemErrors(path, () => writeFileSync(path, `${stringifyWithNumerals(json)}\n`));
}

/** The config.json of a model, with its numbers as they are spelled there; of a GGUF file, the one that it stands for. */
export function readRawConfig(files: ModelFiles): JsonObject {
  if (files instanceof AdapterFiles) {
    const raw = readRawConfig(files.base);
    return files.vocabSize === undefined ? raw : resizeRawConfig(raw, files.vocabSize);
  }
  if (files.form === "gguf") return withFloatNumerals(files.readConfig().raw);
  const path = join(files.path, "config.json");
  return parseWithNumerals(readSmallFile(path, "the model's config"), path, "the model's config");
}

/**
 * Puts everything but config.json and weights into `directory`: copies of the files of a HuggingFace checkpoint, or what a GGUF
 * file holds in the form of such files; of an adapter on a base, those of the base and over them its own. Throws FileError. A tokenizer that cannot be converted is a warning.
 */
export function writeSideFiles(files: ModelFiles, directory: string): void {
  if (files instanceof AdapterFiles) {
    writeSideFiles(files.base, directory);
    copyFiles(files.path, directory, (name) => copied.has(name)); // its own tokenizer, where it has one
  } else if (files.form === "huggingface")
    copyFiles(files.path, directory, (name) => copied.has(name) || terms.test(name));
  else convertFiles(files, directory);
}

function copyFiles(source: string, directory: string, isWanted: (name: string) => boolean): void {
  systemErrors(directory, () => {
    for (const name of listDirectory(source)) {
      if (isWanted(name)) copyFileSync(join(source, name), join(directory, name));
    }
    if (!existsSync(join(source, moreTemplates))) return;
    mkdirSync(join(directory, moreTemplates), { recursive: true });
    for (const name of readdirSync(join(source, moreTemplates)).filter((file) => file.endsWith(".jinja"))) {
      copyFileSync(join(source, moreTemplates, name), join(directory, moreTemplates, name));
    }
  });
}

function convertFiles(files: ModelFiles, directory: string): void {
  const { bosTokenId, padTokenId } = files.readConfig();
  writeJson(join(directory, "generation_config.json"), {
    ...(bosTokenId !== undefined && { bos_token_id: bosTokenId }),
    ...(padTokenId !== undefined && { pad_token_id: padTokenId }),
    ...files.readGenerationConfig().raw,
  });
  try {
    const { tokenizer, config } = files.readTokenizer();
    writeJson(join(directory, "tokenizer.json"), tokenizer);
    writeJson(join(directory, "tokenizer_config.json"), {
      ...config,
      ...templateField(files),
      tokenizer_class: "PreTrainedTokenizerFast",
    });
  } catch (error) {
    if (!(error instanceof LlcudaError)) throw error;
    process.emitWarning(`the tokenizer is left out: ${error.message}`, { type: "LlcudaWarning" });
  }
}

/** `chat_template` of tokenizer_config.json: one, or a list of several with names. */
function templateField(files: ModelFiles): JsonObject {
  const sources = optionalTemplates(files);
  if (!sources) return {};
  const entries = [...sources.templates].map(([name, template]) => ({ name, template }));
  const [first] = entries;
  return { chat_template: entries.length === 1 && first!.name === "default" ? first!.template : entries };
}

function optionalTemplates(files: ModelFiles): TemplateSources | undefined {
  try {
    return files.readTemplates();
  } catch (error) {
    if (error instanceof UnsupportedError) return undefined; // a base model has none
    throw error;
  }
}
