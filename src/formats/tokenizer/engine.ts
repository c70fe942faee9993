import { FormatError } from "../../base/errors.ts";
import { describeJson, isJsonObject, reasonOf } from "../json.ts";
import { isTokenId, type TokenizerFiles } from "./files.ts";
import { type AddedToken, type Encoder, LibraryTokenizer } from "./library.ts";

/**
 * Makes the library's tokenizer, after checking what it takes on trust: the ids of the vocabulary and the shape of the merges.
 * Only encoding is used of it; decoding is ours, because the library cannot decode token by token.
 * Throws FormatError when it refuses the file.
 */
export function createEncoder(files: TokenizerFiles, addedTokens: readonly AddedToken[]): Encoder {
  const { tokenizer, file } = files;
  checkModel(tokenizer.model, file);
  const complete = {
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    ...tokenizer,
    decoder: null,
    added_tokens: addedTokens,
  };
  try {
    return new LibraryTokenizer(complete, {});
  } catch (cause) {
    throw new FormatError(file, `${file}: the tokenizer cannot be used: ${reasonOf(cause)}`, { cause });
  }
}

function checkModel(model: unknown, file: string): void {
  if (!isJsonObject(model)) throw new FormatError(file, `${file}: model must be an object, got ${describeJson(model)}`);
  const { type, vocab, merges } = model;
  if (type !== undefined && type !== "BPE" && type !== "Unigram" && type !== "WordPiece") {
    throw new FormatError(
      file,
      `${file}: model type ${describeJson(type)} is not known; expected BPE, Unigram or WordPiece`,
    );
  }
  if (isJsonObject(vocab)) {
    for (const token in vocab) {
      if (!isTokenId(vocab[token])) {
        throw new FormatError(file, `${file}: token ${describeJson(token)} has the id ${describeJson(vocab[token])}`);
      }
    }
  } else if (!Array.isArray(vocab) || vocab.length >= 1 << 24) {
    throw new FormatError(file, `${file}: model.vocab must map tokens to ids, got ${describeJson(vocab)}`);
  }
  if (type === "BPE" && !(Array.isArray(merges) && merges.every(isMerge))) {
    throw new FormatError(file, `${file}: model.merges must be a list of pairs`);
  }
}

function isMerge(merge: unknown): boolean {
  if (typeof merge === "string") return merge.includes(" ");
  return Array.isArray(merge) && merge.length === 2 && typeof merge[0] === "string" && typeof merge[1] === "string";
}

/** The ids of a text. Throws FormatError when the vocabulary lacks a token that the text needs. */
export function encodeWith(encoder: Encoder, text: string, addSpecialTokens: boolean, file: string): number[] {
  if (text === "" && !addSpecialTokens) return [];
  let ids: (number | undefined)[];
  try {
    ids = encoder.encode(text, { add_special_tokens: addSpecialTokens }).ids;
  } catch (cause) {
    throw new FormatError(
      file,
      `${file}: the tokenizer failed on a text of ${text.length} characters: ${reasonOf(cause)}`,
      {
        cause,
      },
    );
  }
  if (!ids.every((id) => typeof id === "number")) {
    throw new FormatError(
      file,
      `${file}: the text needs a token that is not in the vocabulary, and there is no unk_token`,
    );
  }
  return ids;
}
