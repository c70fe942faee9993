import { UnsupportedError } from "../../base/errors.ts";
import { ReplaceDecoder } from "./library.ts";
import { Utf8Assembler } from "./utf8.ts";

/**
 * One step from tokens to text that works token by token: what it returns is final. `flush` ends the text.
 * Chained, the stages give, over any split of the tokens, what the decoder in tokenizer.json gives for all of them at once.
 */
export interface Stage {
  push(piece: string): string;
  flush(): string;
}

/** Byte-level BPE: every character of a token stands for a byte; the bytes of all tokens together are the text. */
export class ByteLevelStage implements Stage {
  readonly #utf8 = new Utf8Assembler("perSequence");

  push(piece: string): string {
    return this.#utf8.push(bytesOfPiece(piece));
  }

  flush(): string {
    return this.#utf8.flush();
  }
}

/**
 * Tokens `<0x00>` to `<0xFF>` stand for bytes; a run of them is UTF-8 text. A character is given out when it is whole.
 * Where a run is malformed, its whole characters are kept and each other byte becomes U+FFFD. (The Rust tokenizers turn
 * every byte of such a run into U+FFFD, which would mean to hold back all of it until it ends.)
 */
export class ByteFallbackStage implements Stage {
  readonly #utf8 = new Utf8Assembler("perByte");

  push(piece: string): string {
    const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(piece)?.[1];
    return byte ? this.#utf8.push([Number.parseInt(byte, 16)]) : this.#utf8.flush() + piece;
  }

  flush(): string {
    return this.#utf8.flush();
  }
}

/** Replaces within each token. */
export class ReplaceStage implements Stage {
  readonly #replace: (piece: string) => string;

  constructor(pattern: { String?: string; Regex?: string }, content: string) {
    const literal = pattern.String;
    if (literal !== undefined) {
      this.#replace = (piece) => piece.replaceAll(literal, () => content);
    } else {
      const decoder = new ReplaceDecoder({ type: "Replace", pattern, content });
      this.#replace = (piece) => decoder.decode_chain([piece]).join("");
    }
  }

  push(piece: string): string {
    return this.#replace(piece);
  }

  flush(): string {
    return "";
  }
}

/** Takes up to `start` characters `content` from the beginning of the text and up to `stop` from its end. */
export class StripStage implements Stage {
  readonly #content: string;
  readonly #stop: number;
  #toStrip: number;
  #held = 0;

  constructor(content: string, start: number, stop: number) {
    if ([...content].length !== 1)
      throw new UnsupportedError(`the decoder strips "${content}"; only one character can be`);
    this.#content = content;
    this.#toStrip = start;
    this.#stop = stop;
  }

  push(piece: string): string {
    let rest = piece;
    while (this.#toStrip > 0 && rest !== "") {
      if (!rest.startsWith(this.#content)) this.#toStrip = 0;
      else {
        rest = rest.slice(this.#content.length);
        this.#toStrip--;
      }
    }
    if (this.#stop === 0 || rest === "") return rest;
    rest = this.#content.repeat(this.#held) + rest;
    for (this.#held = 0; this.#held < this.#stop && rest.endsWith(this.#content); this.#held++) {
      rest = rest.slice(0, -this.#content.length);
    }
    return rest;
  }

  flush(): string {
    this.#held = 0;
    return "";
  }
}

/** SentencePiece's `▁` is a space, except in the first token of the text. */
export class MetaspaceStage implements Stage {
  readonly #replacement: string;
  #dropsFirst: boolean;

  constructor(replacement: string, dropsFirst: boolean) {
    this.#replacement = replacement;
    this.#dropsFirst = dropsFirst;
  }

  push(piece: string): string {
    const space = this.#dropsFirst ? "" : " ";
    this.#dropsFirst = false;
    return piece.replaceAll(this.#replacement, space);
  }

  flush(): string {
    return "";
  }
}

/** A tokenizer without a decoder: tokens with spaces between. */
export class JoinStage implements Stage {
  #separator: string;

  constructor(continuation: boolean) {
    this.#separator = continuation ? " " : "";
  }

  push(piece: string): string {
    const text = this.#separator + piece;
    this.#separator = " ";
    return text;
  }

  flush(): string {
    return "";
  }
}

const byteOfCharacter = makeByteTable();

/** The characters that GPT-2 writes for bytes: printable Latin-1 for itself, the others from U+0100 on in order. */
function makeByteTable(): Int16Array {
  const table = new Int16Array(0x144).fill(-1);
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    table[printable ? byte : next++] = byte;
  }
  return table;
}

/** The bytes of a token; one with a character outside the table (an added token) is text itself. */
function bytesOfPiece(piece: string): Uint8Array {
  const bytes = new Uint8Array(piece.length);
  for (let i = 0; i < piece.length; i++) {
    const byte = byteOfCharacter[piece.charCodeAt(i)] ?? -1;
    if (byte < 0) return new TextEncoder().encode(piece);
    bytes[i] = byte;
  }
  return bytes;
}
