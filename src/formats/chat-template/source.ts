import { readdirSync } from "node:fs";
import { join } from "node:path";
import { FormatError, UnsupportedError } from "../../base/errors.ts";
import { isJsonObject, type JsonObject, readOptionalJsonFile, readOptionalSmallFile } from "../json.ts";

/** The templates of a model by name: usually one, `default`; sometimes `tool_use` as well. */
export interface TemplateSources {
  readonly templates: ReadonlyMap<string, string>;
  /** Where they were found: a path. */
  readonly file: string;
}

/**
 * Finds the chat templates of a model directory: chat_template.jinja (with additional_chat_templates/*.jinja), else
 * `chat_template` in tokenizer_config.json, a string or a list with names, else chat_template.json.
 * Throws UnsupportedError when the model has none, FormatError when one is malformed.
 */
export function readTemplateSources(directory: string, tokenizerConfig?: JsonObject): TemplateSources {
  const jinja = join(directory, "chat_template.jinja");
  const bytes = readOptionalSmallFile(jinja, "the chat template");
  if (bytes) {
    const templates = new Map([["default", decodeText(bytes, jinja)], ...additionalTemplates(directory)]);
    return { templates, file: jinja };
  }
  const configFile = join(directory, "tokenizer_config.json");
  const config = tokenizerConfig ?? readOptionalJsonFile(configFile, "tokenizer_config.json") ?? {};
  const found = templatesOf(config.chat_template, configFile);
  if (found) return { templates: found, file: configFile };
  const processorFile = join(directory, "chat_template.json");
  const processor = templatesOf(readOptionalJsonFile(processorFile, "the chat template")?.chat_template, processorFile);
  if (processor) return { templates: processor, file: processorFile };
  throw new UnsupportedError(
    `${directory}: the model has no chat template; it is probably a base model: use generate with a plain prompt, or put a chat_template.jinja there`,
  );
}

/** The `chat_template` field of a config: undefined when it is absent. */
export function templatesOf(field: unknown, file: string): ReadonlyMap<string, string> | undefined {
  if (field === undefined || field === null) return undefined;
  if (typeof field === "string") return new Map([["default", field]]);
  const list = Array.isArray(field)
    ? field.map((entry) => (isJsonObject(entry) ? [entry.name, entry.template] : []))
    : isJsonObject(field)
      ? Object.entries(field)
      : [];
  const isNamed = (pair: unknown[]): pair is [string, string] =>
    typeof pair[0] === "string" && typeof pair[1] === "string";
  if (list.length === 0 || !list.every(isNamed)) {
    throw new FormatError(file, `${file}: chat_template must be a template or a list of templates with names`);
  }
  return new Map(list);
}

function additionalTemplates(directory: string): [string, string][] {
  const folder = join(directory, "additional_chat_templates");
  let names: string[];
  try {
    names = readdirSync(folder).filter((name) => name.endsWith(".jinja"));
  } catch {
    return []; // most models have no such folder
  }
  return names.sort().flatMap((name) => {
    const path = join(folder, name);
    const bytes = readOptionalSmallFile(path, "the chat template");
    return bytes ? [[name.slice(0, -".jinja".length), decodeText(bytes, path)] as [string, string]] : [];
  });
}

function decodeText(bytes: Uint8Array, file: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError(file, `${file}: the chat template is not UTF-8 text`, { cause });
  }
}
