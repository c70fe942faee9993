import { FormatError } from "../../base/errors.ts";
import { describeJson } from "../json.ts";
import type { AddedToken } from "../tokenizer/library.ts";
import type { GgufMetadata } from "./metadata.ts";

/** `tokenizer.ggml.token_type`. */
export const tokenTypes = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** Eight times what the largest vocabularies have. */
const maxTokens = 1 << 21;

/**
 * Whether llama.cpp lets special tokens swallow the white space after them, as Phi-3's do: files do not say, so it goes by the
 * model's name (`general.name`). Three never do.
 */
export function isPhi3Name(name: string | undefined): boolean {
  return /phi-?3/i.test(name ?? "");
}
export const phi3Keeps: readonly string[] = ["<unk>", "<s>", "<|endoftext|>"];

/** The tokens of a GGUF file by id, and what each is. */
export interface GgufVocabulary {
  readonly tokens: readonly string[];
  /** Matched whole in text before anything else, so that merges never build them. */
  readonly added: readonly AddedToken[];
  /** Whether text becomes this token by merging; bytes and unused tokens are in the vocabulary, but not so. */
  isMerged(id: number): boolean;
  /** A token by its role (`bos`, `eos`, `padding`, …); undefined where the file names none, or one that it does not have. */
  named(role: string): number | undefined;
}

/** Reads tokens and their types. Throws FormatError when they are missing, occur twice or do not go together. */
export function readVocabulary(metadata: GgufMetadata): GgufVocabulary {
  const texts = metadata.require("texts", "tokenizer.ggml.tokens");
  if (texts.length === 0 || texts.length > maxTokens) {
    throw metadata.error("tokenizer.ggml.tokens", `has ${texts.length} tokens; expected 1 to ${maxTokens}`);
  }
  const tokens = texts.map((token, id) => token || `[EMPTY_${id}]`);
  checkUnique(tokens, metadata);
  const types = metadata.find("numbers", "tokenizer.ggml.token_type");
  if (types && types.length < tokens.length) {
    throw metadata.error("tokenizer.ggml.token_type", `names ${types.length} of ${tokens.length} tokens`);
  }
  const typeOf = (id: number) => types?.[id] ?? tokenTypes.normal;
  const swallows = isPhi3Name(metadata.find("text", "general.name"));
  const added: AddedToken[] = [];
  for (const [id, content] of tokens.entries()) {
    const type = typeOf(id);
    const isSpecial = type === tokenTypes.control || type === tokenTypes.unknown;
    if (isSpecial || type === tokenTypes.userDefined) {
      added.push({
        id,
        content,
        special: isSpecial,
        lstrip: false,
        rstrip: swallows && !phi3Keeps.includes(content),
        normalized: false,
        single_word: false,
      });
    }
  }
  return {
    tokens,
    added,
    isMerged: (id) => typeOf(id) === tokenTypes.normal,
    named: (role) => {
      const id = metadata.find("size", `tokenizer.ggml.${role}_token_id`);
      return id !== undefined && id < tokens.length ? id : undefined;
    },
  };
}

function checkUnique(tokens: readonly string[], { file }: GgufMetadata): void {
  const ids = new Map<string, number>();
  for (const [id, token] of tokens.entries()) {
    const other = ids.get(token);
    if (other !== undefined) {
      throw new FormatError(file, `${file}: token ${describeJson(token)} has the ids ${other} and ${id}`);
    }
    ids.set(token, id);
  }
}
