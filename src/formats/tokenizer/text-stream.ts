import type { DecoderFactory } from "./decoder.ts";
import type { Stage } from "./stages.ts";

export interface TextStreamOptions {
  /** Leave special tokens out of the text. Default true. */
  readonly skipSpecialTokens?: boolean;
  /**
   * The tokens continue a text instead of beginning one, so that their first space belongs to it: SentencePiece tokenizers
   * drop the space before the first word of a text. Default false, as transformers decodes an answer.
   */
  readonly continuation?: boolean;
}

/** What a stream needs of its tokenizer. */
export interface TextStreamVocabulary {
  readonly decoder: DecoderFactory;
  pieceOf(id: number): string | undefined;
  isSpecial(id: number): boolean;
}

/**
 * Turns token ids into text as they come. All that `push` and `end` return, joined, is what decoding all ids at once gives,
 * whatever the split; a character is never cut. Constant work and memory per token.
 */
export class TextStream {
  readonly #vocabulary: TextStreamVocabulary;
  readonly #skipSpecialTokens: boolean;
  readonly #stage: Stage;

  constructor(vocabulary: TextStreamVocabulary, options: TextStreamOptions = {}) {
    this.#vocabulary = vocabulary;
    this.#skipSpecialTokens = options.skipSpecialTokens ?? true;
    this.#stage = vocabulary.decoder({ continuation: options.continuation ?? false });
  }

  /** The text that these tokens make final. Ids outside the vocabulary give nothing, as in the reference. */
  push(ids: number | Iterable<number>): string {
    if (typeof ids === "number") return this.#pushOne(ids);
    let text = "";
    for (const id of ids) text += this.#pushOne(id);
    return text;
  }

  /** The rest, when no more tokens come: U+FFFD for a character that was not completed. */
  end(): string {
    return this.#stage.flush();
  }

  #pushOne(id: number): string {
    const piece = this.#vocabulary.pieceOf(id);
    if (piece === undefined || (this.#skipSpecialTokens && this.#vocabulary.isSpecial(id))) return "";
    return this.#stage.push(piece);
  }
}
