import { FormatError } from "../../base/errors.ts";
import { formatShape } from "../../base/shape.ts";
import type { LoraAdapter, TokenRows } from "../../formats/peft/adapter.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { tidy } from "../../tensor/tidy.ts";

/**
 * Puts rows [n, C] at the places of their tokens in a table [V, C] of any float dtype. Tokens that follow each other, as new ones
 * do, are copied at once.
 */
export function placeRows(table: Tensor, rows: Tensor, tokens: readonly number[]): void {
  tidy(() => {
    const own = rows.dtype === table.dtype ? rows : rows.to(table.dtype);
    for (let begin = 0, end = 1; begin < tokens.length; begin = end++) {
      while (end < tokens.length && tokens[end] === tokens[end - 1]! + 1) end++;
      table.narrow(0, tokens[begin]!, end - begin).copy_(own.narrow(0, begin, end - begin));
    }
  });
}

/** Throws FormatError for rows of another width than the table's [V, C], and for tokens that it does not have. */
export function checkRows(
  { directory }: LoraAdapter,
  { name, tokens, rows }: TokenRows,
  table: readonly number[],
): void {
  const [vocabulary, width] = table as [number, number];
  if (rows.shape[1] !== width) {
    throw new FormatError(
      rows.file,
      `${rows.file}: "${rows.name}" is ${formatShape(rows.shape)}, but the base model calls for ${formatShape([tokens.length, width])}; the adapter was trained on another base`,
    );
  }
  const beyond = tokens.find((token) => token >= vocabulary);
  if (beyond === undefined) return;
  throw new FormatError(
    directory,
    `${directory}: the adapter trained token ${beyond}, but ${name} of the base model has ${vocabulary} rows; save the base as it was resized for training (resize_token_embeddings), and give that as the base`,
  );
}
