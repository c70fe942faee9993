import { StopMatcher } from "../formats/tokenizer/stop-matcher.ts";
import type { TextStream } from "../formats/tokenizer/text-stream.ts";
import type { FinishReason, TokenEvent } from "./request.ts";

export interface GenerationResult {
  /** The answer, without stop strings and special tokens. */
  readonly text: string;
  /** Every token drawn, the one that ended the answer included. */
  readonly tokenIds: readonly number[];
  readonly finishReason: FinishReason;
  /** The stop string that ended the answer, when one did. */
  readonly stopString: string | undefined;
  readonly promptTokens: number;
}

/** Puts one answer's text together as its tokens come. */
export class TextAssembly {
  readonly #promptTokens: number;
  readonly #stream: TextStream;
  readonly #matcher: StopMatcher;
  readonly #tokenIds: number[] = [];
  #text = "";
  #result: GenerationResult | undefined;

  constructor(promptTokens: number, stream: TextStream, stops: readonly string[]) {
    this.#promptTokens = promptTokens;
    this.#stream = stream;
    this.#matcher = new StopMatcher(stops);
  }

  /** Set once the answer has ended. */
  get result(): GenerationResult | undefined {
    return this.#result;
  }

  /** The text that this token makes certain; never a part of a character, nor of a stop string. */
  push(event: TokenEvent): string {
    this.#tokenIds.push(event.tokenId);
    const isEnd = event.finish === "stop";
    const piece = isEnd ? this.#stream.end() : this.#stream.push(event.tokenId);
    const { text, stop } = this.#matcher.push(piece);
    this.#text += text;
    if (stop !== undefined) {
      this.#finish("stop", stop);
      return text;
    }
    if (!event.finish) return text;
    let rest = "";
    if (!isEnd) {
      const last = this.#matcher.push(this.#stream.end());
      rest += last.text;
      if (last.stop !== undefined) {
        this.#text += rest;
        this.#finish("stop", last.stop);
        return text + rest;
      }
    }
    rest += this.#matcher.end();
    this.#text += rest;
    this.#finish(event.finish, undefined);
    return text + rest;
  }

  #finish(finishReason: FinishReason, stopString: string | undefined): void {
    this.#result = {
      text: this.#text,
      tokenIds: this.#tokenIds,
      finishReason,
      stopString,
      promptTokens: this.#promptTokens,
    };
  }
}
