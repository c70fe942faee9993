import { join } from "node:path";
import { FileError, FormatError, UnsupportedError } from "../../base/errors.ts";
import { listDirectory } from "../directory.ts";
import { describeJson, isJsonObject, type JsonObject, readJsonFile, readOptionalJsonFile } from "../json.ts";
import type { AddedToken } from "./library.ts";

/** The files that make a tokenizer, as JSON. Only the first has to exist. */
export interface TokenizerFiles {
  /** tokenizer.json: all that encoding and decoding need. */
  readonly tokenizer: JsonObject;
  /** tokenizer_config.json: the names of special tokens, the chat template. Its `tokenizer_class` is ignored. */
  readonly config: JsonObject;
  /** special_tokens_map.json: named tokens where the config has none. */
  readonly specialTokensMap: JsonObject;
  /** added_tokens.json of older checkpoints: content to id. */
  readonly addedTokens: JsonObject;
  /** Path of tokenizer.json, for messages. */
  readonly file: string;
}

export function readTokenizerFiles(directory: string): TokenizerFiles {
  const entries = listDirectory(directory);
  const file = join(directory, "tokenizer.json");
  if (!entries.includes("tokenizer.json")) {
    const old = entries.find((name) => name === "tokenizer.model" || name === "vocab.json" || name === "spiece.model");
    if (old) {
      throw new UnsupportedError(
        `${directory}: there is no tokenizer.json, only ${old}; convert it: AutoTokenizer.from_pretrained(...).save_pretrained(...) in transformers writes tokenizer.json`,
      );
    }
    throw new FileError(
      file,
      `${directory}: there is no tokenizer.json; download the tokenizer's files with the model`,
    );
  }
  const optional = (name: string) => readOptionalJsonFile(join(directory, name), name) ?? {};
  return {
    tokenizer: readJsonFile(file, "the tokenizer"),
    config: optional("tokenizer_config.json"),
    specialTokensMap: optional("special_tokens_map.json"),
    addedTokens: optional("added_tokens.json"),
    file,
  };
}

export type NamedToken =
  | "bos_token"
  | "eos_token"
  | "pad_token"
  | "unk_token"
  | "sep_token"
  | "cls_token"
  | "mask_token";
const namedTokens: readonly NamedToken[] = [
  "bos_token",
  "eos_token",
  "pad_token",
  "unk_token",
  "sep_token",
  "cls_token",
  "mask_token",
];

/** What the files say of tokens that are special by name; the config counts before the map. */
export function readNamedTokens(files: TokenizerFiles): ReadonlyMap<NamedToken, string> {
  const named = new Map<NamedToken, string>();
  for (const name of namedTokens) {
    const content = tokenContent(files.config[name]) ?? tokenContent(files.specialTokensMap[name]);
    if (content) named.set(name, content);
  }
  return named;
}

/** Tokens that are special though not named: lists in the config or the map. */
export function readExtraSpecialTokens(files: TokenizerFiles): string[] {
  const extra: string[] = [];
  for (const source of [files.config, files.specialTokensMap]) {
    for (const field of ["additional_special_tokens", "extra_special_tokens"]) {
      const value = source[field];
      const list = Array.isArray(value) ? value : isJsonObject(value) ? Object.values(value) : [];
      extra.push(...list.map(tokenContent).filter((content) => content !== undefined));
    }
  }
  return extra;
}

/** Special tokens are written as text, or as an object with their content. */
function tokenContent(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  return isJsonObject(value) && typeof value.content === "string" ? value.content : undefined;
}

/**
 * The added tokens of all files: those of tokenizer.json, then what only `added_tokens_decoder` in the config or
 * added_tokens.json lists. Throws FormatError for an entry that is not a token.
 */
export function readAddedTokens(files: TokenizerFiles): AddedToken[] {
  const { file } = files;
  const listed = files.tokenizer.added_tokens ?? [];
  if (!Array.isArray(listed)) {
    throw new FormatError(file, `${file}: added_tokens must be a list, got ${describeJson(listed)}`);
  }
  const tokens = new Map<string, AddedToken>();
  for (const token of listed) tokens.set(checkAddedToken(token, file).content, token);
  const decoder = isJsonObject(files.config.added_tokens_decoder) ? files.config.added_tokens_decoder : {};
  for (const [id, token] of Object.entries(decoder)) {
    const full = checkAddedToken(isJsonObject(token) ? { ...token, id: Number(id) } : token, file);
    if (!tokens.has(full.content)) tokens.set(full.content, full);
  }
  for (const [content, id] of Object.entries(files.addedTokens)) {
    if (!tokens.has(content)) tokens.set(content, checkAddedToken({ content, id }, file));
  }
  return [...tokens.values()];
}

function checkAddedToken(token: unknown, file: string): AddedToken {
  const isSound =
    isJsonObject(token) && typeof token.content === "string" && token.content !== "" && isTokenId(token.id);
  if (!isSound) {
    throw new FormatError(file, `${file}: added token ${describeJson(token)} must have a content and an id`);
  }
  return token as unknown as AddedToken;
}

/** Ids are also bounded, because vocabularies are arrays. */
export function isTokenId(id: unknown): id is number {
  return Number.isInteger(id) && (id as number) >= 0 && (id as number) < 1 << 24;
}
