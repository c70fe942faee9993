import { randomInt } from "node:crypto";
import { isJsonObject } from "../json.ts";
import { createEncoder, encodeWith } from "./engine.ts";
import type { TokenizerFiles } from "./files.ts";
import type { AddedToken, Encoder } from "./library.ts";

/** A value whose strings have special tokens replaced by stand-ins, so that a template can be rendered around them. */
export interface Hidden<T> {
  readonly value: T;
  /** Whether anything in it could be read as a special token; if not, `value` is what was given. */
  readonly found: boolean;
}

/**
 * Encodes text in which special tokens are mere characters. A second encoder knows the special tokens by secret names instead of
 * their own: written-out tokens do not match, while those that stand by right are renamed first. It is made when first needed,
 * so ordinary text costs nothing and gets the same ids as without protection.
 */
export class PlainTextEncoder {
  readonly #files: TokenizerFiles;
  readonly #added: readonly AddedToken[];
  readonly #normalize: (text: string) => string;
  readonly #specials: readonly string[];
  readonly #anySpecial: RegExp | undefined;
  /** Private-use characters that nobody outside this process can guess: one prefix for stand-ins, one for secret names. */
  readonly #standInPrefix = secret();
  readonly #namePrefix = secret();
  #encoder: Encoder | undefined;

  constructor(
    files: TokenizerFiles,
    added: readonly AddedToken[],
    specials: readonly string[],
    normalize: (text: string) => string,
  ) {
    this.#files = files;
    this.#added = added;
    this.#normalize = normalize;
    this.#specials = [...specials].sort((a, b) => b.length - a.length); // the longest match counts
    this.#anySpecial = specials.length > 0 ? new RegExp(this.#specials.map(escapeRegExp).join("|"), "gu") : undefined;
  }

  /** Whether a text holds a special token written out, as it is or after normalization (full-width letters). */
  mentionsSpecialTokens(text: string): boolean {
    return text !== "" && (this.#mentions(text) || this.#mentions(this.#normalize(text)));
  }

  /** All of `text` as plain characters. */
  encode(text: string, addSpecialTokens: boolean): number[] {
    return encodeWith(this.#variant(), text, addSpecialTokens, this.#files.file);
  }

  /** Replaces special tokens in every string within a JSON-like value. */
  hide<T>(value: T): Hidden<T> {
    let found = false;
    const visit = (part: unknown): unknown => {
      if (typeof part === "string") {
        if (!this.mentionsSpecialTokens(part)) return part;
        found = true;
        return part.replace(this.#anySpecial!, (token) => this.#numbered(this.#standInPrefix, token));
      }
      if (Array.isArray(part)) return part.map(visit);
      if (isJsonObject(part)) return Object.fromEntries(Object.entries(part).map(([k, v]) => [visit(k), visit(v)]));
      return part;
    };
    const hidden = visit(value) as T;
    return found ? { value: hidden, found } : { value, found };
  }

  /** What a text with stand-ins shows: the special tokens written out. */
  reveal(text: string): string {
    const standIn = new RegExp(`${this.#standInPrefix}(.)`, "gu");
    return text.replace(standIn, (all, number: string) => this.#specials[number.codePointAt(0)! - firstPrivate] ?? all);
  }

  /** Encodes text with stand-ins: they become plain characters, special tokens beside them remain tokens. */
  encodeHidden(text: string): number[] {
    const renamed = this.#anySpecial
      ? text.replace(this.#anySpecial, (token) => this.#numbered(this.#namePrefix, token))
      : text;
    return encodeWith(this.#variant(), this.reveal(renamed), false, this.#files.file);
  }

  #mentions(text: string): boolean {
    return this.#anySpecial !== undefined && text.search(this.#anySpecial) >= 0;
  }

  #numbered(prefix: string, special: string): string {
    return prefix + String.fromCodePoint(firstPrivate + this.#specials.indexOf(special));
  }

  #variant(): Encoder {
    if (this.#encoder) return this.#encoder;
    const known = new Set(this.#specials);
    const rename = (content: string) => (known.has(content) ? this.#numbered(this.#namePrefix, content) : content);
    const added = this.#added.map((token) => ({ ...token, content: rename(token.content) }));
    const tokenizer = {
      ...this.#files.tokenizer,
      post_processor: renameStrings(this.#files.tokenizer.post_processor, rename),
    };
    this.#encoder = createEncoder({ ...this.#files, tokenizer }, added);
    return this.#encoder;
  }
}

/** The first private-use character of plane 15, which has 65,534 of them. */
const firstPrivate = 0xf0000;

function secret(): string {
  return String.fromCodePoint(...Array.from({ length: 4 }, () => firstPrivate + randomInt(0xfffe)));
}

function escapeRegExp(text: string): string {
  return text.replaceAll(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
}

/** Renames in keys and values: a post-processor names the tokens that it adds. */
function renameStrings(value: unknown, rename: (text: string) => string): unknown {
  if (typeof value === "string") return rename(value);
  if (Array.isArray(value)) return value.map((part) => renameStrings(part, rename));
  if (!isJsonObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [rename(key), renameStrings(part, rename)]));
}
