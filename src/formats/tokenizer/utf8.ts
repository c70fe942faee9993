/** How many U+FFFD stand for bytes that are not UTF-8: one for each, or one for each longest beginning of a character. */
export type Utf8Repair = "perByte" | "perSequence";

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

/**
 * Turns bytes that arrive in any pieces into whole characters: a character is given out with its last byte, never before.
 * What can no longer become a character is replaced by U+FFFD at once. Holds at most 3 bytes.
 */
export class Utf8Assembler {
  readonly #repair: Utf8Repair;
  /** The beginning of one character. */
  #pending: number[] = [];

  constructor(repair: Utf8Repair) {
    this.#repair = repair;
  }

  push(bytes: ArrayLike<number>): string {
    let text = "";
    let whole: number[] = [];
    for (let i = 0; i < bytes.length; i++) {
      const byte = bytes[i]!;
      if (this.#pending.length > 0 && !continues(this.#pending, byte)) {
        text += decode(whole) + this.#replacement();
        whole = [];
      }
      this.#pending.push(byte);
      const wanted = characterLength(this.#pending[0]!);
      if (wanted === 0) {
        text += decode(whole) + this.#replacement();
        whole = [];
      } else if (this.#pending.length === wanted) {
        for (const one of this.#pending) whole.push(one);
        this.#pending = [];
      }
    }
    return text + decode(whole);
  }

  /** Ends the text: what is pending will not be completed. */
  flush(): string {
    return this.#pending.length > 0 ? this.#replacement() : "";
  }

  #replacement(): string {
    const text = "\ufffd".repeat(this.#repair === "perByte" ? this.#pending.length : 1);
    this.#pending = [];
    return text;
  }
}

function decode(bytes: number[]): string {
  if (bytes.length === 1) return String.fromCharCode(bytes[0]!);
  return bytes.length === 0 ? "" : utf8.decode(Uint8Array.from(bytes));
}

/** Bytes of the character that a byte begins; 0 when no character begins with it. Unicode standard, table 3-7. */
function characterLength(first: number): number {
  if (first < 0x80) return 1;
  if (first < 0xc2) return 0;
  if (first < 0xe0) return 2;
  if (first < 0xf0) return 3;
  return first < 0xf5 ? 4 : 0;
}

/** Whether `byte` may follow `pending`: the second byte is bounded so as to exclude overlong forms and surrogates. */
function continues(pending: readonly number[], byte: number): boolean {
  const first = pending[0]!;
  let low = 0x80;
  let high = 0xbf;
  if (pending.length === 1) {
    if (first === 0xe0) low = 0xa0;
    if (first === 0xed) high = 0x9f;
    if (first === 0xf0) low = 0x90;
    if (first === 0xf4) high = 0x8f;
  }
  return byte >= low && byte <= high;
}
