import { PtxError } from "./error.ts";
import { type Token, tokenize } from "./lexer.ts";

/** The tokens of a module one after another. */
export class TokenReader {
  readonly tokens: readonly Token[];
  /** The index of the next token. */
  at = 0;
  readonly #name: string;

  /** `name` appears in errors. Throws PtxError for a character that begins no token. */
  constructor(text: string, name: string) {
    this.#name = name;
    this.tokens = tokenize(text, name);
  }

  peek(): Token {
    return this.tokens[this.at]!;
  }

  next(): Token {
    const token = this.tokens[this.at]!;
    if (token.kind !== "end") this.at++;
    return token;
  }

  /** Steps over a token when it is this one. */
  accept(text: string): boolean {
    if (this.peek().text !== text) return false;
    this.at++;
    return true;
  }

  expect(text: string): void {
    const token = this.next();
    if (token.text !== text) this.fail(`expected "${text}", found ${JSON.stringify(token.text)}`, token);
  }

  fail(detail: string, token: Token): never {
    throw new PtxError(this.#name, token.line, detail);
  }
}
