import type { Token } from "./lexer.ts";

/**
 * Where the bodies of a module's functions stand, by name: the index of the token behind `.func`. Declarations without a
 * body are left out.
 */
export function findFunctions(tokens: readonly Token[]): ReadonlyMap<string, number> {
  const found = new Map<string, number>();
  let depth = 0;
  tokens.forEach((token, i) => {
    if (token.text === "{") depth++;
    else if (token.text === "}") depth--;
    else if (depth === 0 && token.text === ".func") {
      const name = tokens[behindParentheses(tokens, i + 1)];
      if (name && hasBody(tokens, i)) found.set(name.text, i + 1);
    }
  });
  return found;
}

/** The index behind a list in parentheses at `at`, if there is one. */
export function behindParentheses(tokens: readonly Token[], at: number): number {
  if (tokens[at]?.text !== "(") return at;
  const end = tokens.findIndex((token, i) => i > at && token.text === ")");
  return end < 0 ? tokens.length : end + 1;
}

function hasBody(tokens: readonly Token[], at: number): boolean {
  return tokens.find((token, i) => i > at && (token.text === "{" || token.text === ";"))?.text === "{";
}
