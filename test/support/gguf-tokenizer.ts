import { readFileSync } from "node:fs";
import { join } from "node:path";
import { flag, type GgufValue, text, texts, uint32 } from "../../src/formats/gguf/values.ts";

interface TokenizerJson {
  readonly model: {
    readonly vocab: Readonly<Record<string, number>>;
    readonly merges: readonly (readonly [string, string])[];
    readonly byte_fallback: boolean;
    readonly unk_token: string | null;
  };
  readonly added_tokens: readonly { readonly id: number; readonly content: string; readonly special: boolean }[];
}

/**
 * The metadata that llama.cpp's converter makes of a HuggingFace tokenizer: byte-level ones with their merges, SentencePiece ones
 * with a score for each token, the rank of the merge that makes it.
 */
export function tokenizerMetadata(directory: string, pre: string): Map<string, GgufValue> {
  const read = (name: string) => JSON.parse(readFileSync(join(directory, name), "utf8"));
  const { model, added_tokens: added }: TokenizerJson = read("tokenizer.json");
  const config: Readonly<Record<string, string>> = read("tokenizer_config.json");
  const tokens: string[] = [];
  for (const [token, at] of Object.entries(model.vocab)) tokens[at] = token;
  for (const token of added) tokens[token.id] = token.content;
  const special = new Map(added.map((token) => [token.id, token.special]));
  const types = Int32Array.from(tokens, (token, at) => {
    if (token === model.unk_token) return 2;
    if (special.has(at)) return special.get(at) ? 3 : 4;
    return model.byte_fallback && /^<0x[0-9A-F]{2}>$/.test(token) ? 6 : 1;
  });
  const isSentencePiece = model.byte_fallback;
  const metadata = new Map<string, GgufValue>([
    ["tokenizer.ggml.model", text(isSentencePiece ? "llama" : "gpt2")],
    ["tokenizer.ggml.pre", text(pre)],
    ["tokenizer.ggml.tokens", texts(tokens)],
    ["tokenizer.ggml.token_type", { type: "array", of: "int32", value: types }],
    ["tokenizer.chat_template", text(readFileSync(join(directory, "chat_template.jinja"), "utf8"))],
  ]);
  if (isSentencePiece) {
    const rank = new Map<string, number>();
    for (const [at, [a, b]] of model.merges.entries()) if (!rank.has(a + b)) rank.set(a + b, at);
    const scores = Float32Array.from(tokens, (token) => -(rank.get(token) ?? tokens.length));
    metadata.set("tokenizer.ggml.scores", { type: "array", of: "float32", value: scores });
  } else {
    metadata.set("tokenizer.ggml.merges", texts(model.merges.map((merge) => merge.join(" "))));
  }
  const roles = { bos_token: "bos", eos_token: "eos", pad_token: "padding", unk_token: "unknown" };
  for (const [name, role] of Object.entries(roles)) {
    const at = config[name] === undefined ? -1 : tokens.indexOf(config[name]);
    if (at >= 0) metadata.set(`tokenizer.ggml.${role}_token_id`, uint32(at));
  }
  const post = JSON.stringify(read("tokenizer.json").post_processor);
  const hasBos = config.bos_token !== undefined;
  metadata.set("tokenizer.ggml.add_bos_token", flag(hasBos && post.includes(JSON.stringify(config.bos_token))));
  if (isSentencePiece) {
    metadata.set("tokenizer.ggml.add_space_prefix", flag(JSON.stringify(read("tokenizer.json")).includes('"Prepend"')));
  }
  return metadata;
}
