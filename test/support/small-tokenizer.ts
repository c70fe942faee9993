import { copyFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

interface AddedToken {
  id: number;
  content: string;
}

/**
 * Copies a tokenizer of the fixtures with as many tokens as the golden checkpoints' embeddings have rows: tokens that do not fit and
 * the merges that make them are left out, added tokens at the end of the vocabulary get the last ids.
 */
export function writeSmallTokenizer(source: string, directory: string, vocabSize: number): void {
  const json = JSON.parse(readFileSync(join(source, "tokenizer.json"), "utf8"));
  const { model, added_tokens: added } = json as {
    model: { vocab: Record<string, number>; merges: (string | [string, string])[] };
    added_tokens: AddedToken[];
  };
  const outside = added.filter(({ id }) => id >= vocabSize);
  for (const [i, token] of outside.entries()) token.id = vocabSize - outside.length + i;
  const idOf = new Map(added.map(({ content, id }) => [content, id]));
  const kept = Object.entries(model.vocab).filter(([token, id]) => idOf.has(token) || id < vocabSize - outside.length);
  model.vocab = Object.fromEntries(kept);
  model.merges = model.merges.filter((merge) => {
    const [left, right] = typeof merge === "string" ? merge.split(" ") : merge;
    return [left!, right!, left! + right!].every((token) => token in model.vocab);
  });
  const text = JSON.stringify(json, (key, value) =>
    key === "special_tokens" && !Array.isArray(value)
      ? Object.fromEntries(
          Object.entries(value).map(([name, one]) => [name, { ...(one as object), ids: [idOf.get(name)] }]),
        )
      : value,
  );
  writeFileSync(join(directory, "tokenizer.json"), text);
  for (const file of ["tokenizer_config.json", "chat_template.jinja"]) {
    if (existsSync(join(source, file))) copyFileSync(join(source, file), join(directory, file));
  }
}
