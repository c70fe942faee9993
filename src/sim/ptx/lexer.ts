import { PtxError } from "./error.ts";

export interface Token {
  readonly kind: "word" | "dotted" | "integer" | "float" | "string" | "punctuation" | "end";
  readonly text: string;
  readonly line: number;
}

/** What a token may begin with, by character code; files have tens of thousands of tokens, so one look decides. */
const starts = new Uint8Array(128);
const start = { none: 0, blank: 1, newline: 2, slash: 3, digit: 4, word: 5, dot: 6, quote: 7, punctuation: 8 } as const;
for (const c of " \t\r") starts[c.charCodeAt(0)] = start.blank;
starts[10] = start.newline;
starts["/".charCodeAt(0)] = start.slash;
for (const c of "0123456789") starts[c.charCodeAt(0)] = start.digit;
for (let c = 0; c < 26; c++) starts[65 + c] = starts[97 + c] = start.word;
for (const c of "_$%") starts[c.charCodeAt(0)] = start.word;
starts[".".charCodeAt(0)] = start.dot;
starts['"'.charCodeAt(0)] = start.quote;
for (const c of "{}()[]<>,;:|=+-!@*&") starts[c.charCodeAt(0)] = start.punctuation;

const patterns = {
  float: /0[fF][0-9a-fA-F]{8}|0[dD][0-9a-fA-F]{16}|\d+\.\d*(?:[eE][+-]?\d+)?/y,
  integer: /0[xX][0-9a-fA-F]+U?|0[bB][01]+U?|\d+U?/y,
  word: /[A-Za-z_$%][\w$]*/y,
  dotted: /\.[A-Za-z0-9_][\w$]*(?:::[\w$]+)*/y,
  string: /"[^"\n]*"/y,
} as const;

/** Splits PTX text. Throws PtxError for a character that begins no token. */
export function tokenize(text: string, name: string): Token[] {
  const tokens: Token[] = [];
  let line = 1;
  let at = 0;
  const fail = (): never => {
    throw new PtxError(name, line, `unexpected character ${JSON.stringify(text[at])}`);
  };
  const take = (kind: keyof typeof patterns): boolean => {
    const pattern = patterns[kind];
    pattern.lastIndex = at;
    if (!pattern.test(text)) return false;
    tokens.push({ kind, text: text.slice(at, pattern.lastIndex), line });
    at = pattern.lastIndex;
    return true;
  };
  while (at < text.length) {
    switch (starts[text.charCodeAt(at)]) {
      case start.blank:
        at++;
        break;
      case start.newline:
        at++;
        line++;
        break;
      case start.slash: {
        if (text[at + 1] === "/") {
          const end = text.indexOf("\n", at);
          at = end < 0 ? text.length : end;
        } else if (text[at + 1] === "*") {
          const end = text.indexOf("*/", at + 2);
          if (end < 0) fail();
          line += text.slice(at, end).split("\n").length - 1;
          at = end + 2;
        } else fail();
        break;
      }
      case start.digit:
        if (!take("float")) take("integer");
        break;
      case start.word:
        take("word");
        break;
      case start.dot:
        if (!take("dotted")) fail();
        break;
      case start.quote:
        if (!take("string")) fail();
        break;
      case start.punctuation:
        tokens.push({ kind: "punctuation", text: text[at]!, line });
        at++;
        break;
      default:
        fail();
    }
  }
  tokens.push({ kind: "end", text: "", line });
  return tokens;
}
