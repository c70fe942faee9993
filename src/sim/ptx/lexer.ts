import { PtxError } from "./error.ts";

export interface Token {
  readonly kind: "word" | "dotted" | "integer" | "float" | "string" | "punctuation" | "end";
  readonly text: string;
  readonly line: number;
}

const pattern =
  /(?<space>[ \t\r]+|\/\/[^\n]*)|(?<newline>\n)|(?<comment>\/\*[\s\S]*?\*\/)|(?<float>0[fF][0-9a-fA-F]{8}|0[dD][0-9a-fA-F]{16}|\d+\.\d*(?:[eE][+-]?\d+)?)|(?<integer>0[xX][0-9a-fA-F]+U?|0[bB][01]+U?|\d+U?)|(?<word>[A-Za-z_$%][\w$]*)|(?<dotted>\.[A-Za-z0-9_][\w$]*(?:::[\w$]+)*)|(?<string>"[^"\n]*")|(?<punctuation>[{}()[\]<>,;:|=+\-!@*&])/y;

/** Splits PTX text. Throws PtxError for a character that begins no token. */
export function tokenize(text: string, name: string): Token[] {
  const tokens: Token[] = [];
  let line = 1;
  pattern.lastIndex = 0;
  while (pattern.lastIndex < text.length) {
    const at = pattern.lastIndex;
    const groups = pattern.exec(text)?.groups;
    if (!groups) throw new PtxError(name, line, `unexpected character ${JSON.stringify(text[at])}`);
    if (groups.space !== undefined) continue;
    if (groups.newline !== undefined) {
      line++;
      continue;
    }
    if (groups.comment !== undefined) {
      line += groups.comment.split("\n").length - 1;
      continue;
    }
    for (const kind of ["word", "dotted", "punctuation", "integer", "float", "string"] as const) {
      const found = groups[kind];
      if (found !== undefined) {
        tokens.push({ kind, text: found, line });
        break;
      }
    }
  }
  tokens.push({ kind: "end", text: "", line });
  return tokens;
}
