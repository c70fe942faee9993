import type { JsonObject } from "../json.ts";
import { createDecoder, type DecoderFactory } from "./decoder.ts";
import { createEncoder, encodeWith } from "./engine.ts";
import {
  type NamedToken,
  readAddedTokens,
  readExtraSpecialTokens,
  readNamedTokens,
  readTokenizerFiles,
  type TokenizerFiles,
} from "./files.ts";
import type { AddedToken, Encoder } from "./library.ts";
import { type Hidden, PlainTextEncoder } from "./plain-text.ts";
import { TextStream, type TextStreamOptions, type TextStreamVocabulary } from "./text-stream.ts";

export interface EncodeOptions {
  /** Add what the model expects around a text, such as the token that begins it. Default true; false after a chat template. */
  readonly addSpecialTokens?: boolean;
  /**
   * What special tokens written out in the text become: `"token"` (default, as transformers) the token itself, `"text"` plain
   * characters, so that text from users cannot end a turn or begin one.
   */
  readonly specialTokens?: "token" | "text";
}

export interface DecodeOptions {
  /** Default false, as in transformers. */
  readonly skipSpecialTokens?: boolean;
}

/**
 * A HuggingFace tokenizer: text to token ids and back. What counts is the content of tokenizer.json, whatever class
 * tokenizer_config.json names. Ids are those of the reference (Rust) tokenizers; decoding never tidies spaces up.
 */
export class Tokenizer {
  /** tokenizer_config.json, or empty. */
  readonly config: JsonObject;
  readonly file: string;
  /** One more than the highest id. */
  readonly vocabSize: number;
  /** Special tokens by content: those that `skipSpecialTokens` leaves out. */
  readonly specialTokens: ReadonlyMap<string, number>;
  /** All tokens that were added to the model's own, special or not, by content. */
  readonly addedTokens: ReadonlyMap<string, number>;
  readonly #encoder: Encoder;
  readonly #decoder: DecoderFactory;
  readonly #pieces: readonly (string | undefined)[];
  readonly #named: ReadonlyMap<NamedToken, string>;
  readonly #specialIds: ReadonlySet<number>;
  readonly #plainText: PlainTextEncoder;

  /** Loads the tokenizer of a model directory. Throws FileError when there is none, FormatError when it is malformed. */
  static load(directory: string): Tokenizer {
    return new Tokenizer(readTokenizerFiles(directory));
  }

  /** Throws FormatError, or UnsupportedError for a decoder that cannot work token by token. */
  constructor(files: TokenizerFiles) {
    this.file = files.file;
    this.config = files.config;
    const added = readAddedTokens(files);
    this.#encoder = createEncoder(files, added);
    this.#decoder = createDecoder(files.tokenizer.decoder, files.file);
    this.#pieces = this.#encoder.model?.vocab ?? [];
    this.vocabSize = this.#pieces.length;
    this.addedTokens = new Map(added.map((token) => [token.content, token.id]));
    this.#named = readNamedTokens(files);
    this.specialTokens = this.#findSpecialTokens(added, readExtraSpecialTokens(files));
    this.#specialIds = new Set(this.specialTokens.values());
    const { normalizer } = this.#encoder;
    const normalize = (text: string) => (normalizer ? normalizer.normalize(text) : text);
    this.#plainText = new PlainTextEncoder(files, added, [...this.specialTokens.keys()], normalize);
  }

  /** The ids of a text. */
  encode(text: string, options: EncodeOptions = {}): number[] {
    const { addSpecialTokens = true, specialTokens = "token" } = options;
    if (specialTokens === "text" && this.#plainText.mentionsSpecialTokens(text)) {
      return this.#plainText.encode(text, addSpecialTokens);
    }
    return encodeWith(this.#encoder, text, addSpecialTokens, this.file);
  }

  /**
   * Replaces special tokens that are written out in the strings of a value (chat messages) by stand-ins. Text rendered from it is
   * encoded by `encodeHidden`, where stand-ins become plain characters, and shown by `revealHidden`.
   */
  hideSpecialTokens<T>(value: T): Hidden<T> {
    return this.#plainText.hide(value);
  }

  /** The ids of text with stand-ins; special tokens beside them stay tokens, nothing is added around. */
  encodeHidden(text: string): number[] {
    return this.#plainText.encodeHidden(text);
  }

  revealHidden(text: string): string {
    return this.#plainText.reveal(text);
  }

  /** The text of ids; ids outside the vocabulary give nothing. */
  decode(ids: Iterable<number>, options: DecodeOptions = {}): string {
    const stream = this.stream({ skipSpecialTokens: options.skipSpecialTokens ?? false });
    return stream.push(ids) + stream.end();
  }

  /** A decoder for ids that come one by one. */
  stream(options: TextStreamOptions = {}): TextStream {
    const vocabulary: TextStreamVocabulary = {
      decoder: this.#decoder,
      pieceOf: (id) => this.#pieces[id],
      isSpecial: (id) => this.#specialIds.has(id),
    };
    return new TextStream(vocabulary, options);
  }

  tokenToId(token: string): number | undefined {
    return this.addedTokens.get(token) ?? this.#encoder.token_to_id(token);
  }

  /** The token as the vocabulary writes it (`Ġworld`, `▁world`, `<0x0A>`). */
  idToToken(id: number): string | undefined {
    return this.#pieces[id];
  }

  isSpecial(id: number): boolean {
    return this.#specialIds.has(id);
  }

  /** The content of a token by its role, whether or not the vocabulary has it. */
  namedToken(name: NamedToken): string | undefined {
    return this.#named.get(name);
  }

  get bosTokenId(): number | undefined {
    return this.#idOfNamed("bos_token");
  }

  get eosTokenId(): number | undefined {
    return this.#idOfNamed("eos_token");
  }

  get padTokenId(): number | undefined {
    return this.#idOfNamed("pad_token");
  }

  get unkTokenId(): number | undefined {
    return this.#idOfNamed("unk_token");
  }

  #idOfNamed(name: NamedToken): number | undefined {
    const content = this.#named.get(name);
    return content === undefined ? undefined : this.tokenToId(content);
  }

  #findSpecialTokens(added: readonly AddedToken[], extra: readonly string[]): ReadonlyMap<string, number> {
    const special = new Map(added.filter((token) => token.special).map((token) => [token.content, token.id]));
    for (const content of [...this.#named.values(), ...extra]) {
      const id = this.tokenToId(content);
      if (id !== undefined) special.set(content, id);
    }
    return special;
  }
}
