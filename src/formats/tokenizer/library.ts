import * as library from "@huggingface/tokenizers";

/** One entry of `added_tokens` in tokenizer.json. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special?: boolean;
  readonly lstrip?: boolean;
  readonly rstrip?: boolean;
  readonly normalized?: boolean;
  readonly single_word?: boolean;
}

/** What is used of the library's Tokenizer. An id is missing where the vocabulary has neither the token nor an unknown token. */
export interface Encoder {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: (number | undefined)[] };
  token_to_id(token: string): number | undefined;
  readonly normalizer: { normalize(text: string): string } | null;
  /** `vocab`: tokens by id. */
  readonly model: { readonly vocab: readonly (string | undefined)[] } | null;
}

interface Library {
  readonly Tokenizer: new (tokenizer: object, config: object) => Encoder;
  readonly ReplaceDecoder: new (config: object) => { decode_chain(tokens: string[]): string[] };
}

// The package's declarations import each other without file extensions, which Node's module resolution does not follow,
// so its exports would have the type `any`; what is used is declared here.
export const { Tokenizer: LibraryTokenizer, ReplaceDecoder } = library as unknown as Library;
