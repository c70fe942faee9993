import { UnsupportedError } from "../../../base/errors.ts";
import type { TemplateSources } from "../../chat-template/source.ts";
import { isJsonObject, type JsonObject } from "../../json.ts";
import { readAddedTokens, type TokenizerFiles } from "../../tokenizer/files.ts";
import { Tokenizer } from "../../tokenizer/tokenizer.ts";
import { preTokenizerName } from "../pre-tokenizers.ts";
import { flag, type GgufValue, text, texts, uint32 } from "../values.ts";
import { tokenTypes } from "../vocabulary.ts";

/**
 * The metadata of a HuggingFace tokenizer: byte-level BPE with its merges, SentencePiece BPE with a score for each token. Throws
 * UnsupportedError for other models, and for a way to cut words that GGUF has no name for.
 */
export function tokenizerMetadata(files: TokenizerFiles, vocabSize: number): Map<string, GgufValue> {
  const { model, normalizer, pre_tokenizer: preTokenizer } = files.tokenizer;
  if (
    !isJsonObject(model) ||
    !isJsonObject(model.vocab) ||
    !Array.isArray(model.merges) ||
    (model.type ?? "BPE") !== "BPE"
  ) {
    throw new UnsupportedError(`${files.file}: only tokenizers of type BPE can be written as GGUF`);
  }
  const tokenizer = new Tokenizer(files);
  const tokens = listTokens(tokenizer, vocabSize);
  const isSentencePiece = model.byte_fallback === true;
  const merges = model.merges.map((merge) => (typeof merge === "string" ? merge : (merge as string[]).join(" ")));
  const metadata = new Map<string, GgufValue>([
    ["tokenizer.ggml.model", text(isSentencePiece ? "llama" : "gpt2")],
    ["tokenizer.ggml.pre", text(isSentencePiece ? "default" : preTokenizerName(preTokenizer, model, files.file))],
    ["tokenizer.ggml.tokens", texts(tokens)],
    ["tokenizer.ggml.token_type", { type: "array", of: "int32", value: typesOf(tokens, tokenizer, files, model) }],
  ]);
  if (isSentencePiece) {
    metadata.set("tokenizer.ggml.scores", { type: "array", of: "float32", value: scoresOf(tokens, merges) });
    metadata.set(
      "tokenizer.ggml.add_space_prefix",
      flag(JSON.stringify([normalizer, preTokenizer]).includes("repend")),
    );
  } else {
    metadata.set("tokenizer.ggml.merges", texts(merges));
  }
  const { bosTokenId, eosTokenId, padTokenId, unkTokenId } = tokenizer;
  const roles = { bos: bosTokenId, eos: eosTokenId, padding: padTokenId, unknown: unkTokenId };
  for (const [role, at] of Object.entries(roles)) {
    if (at !== undefined) metadata.set(`tokenizer.ggml.${role}_token_id`, uint32(at));
  }
  const around = tokenizer.encode("a");
  metadata.set("tokenizer.ggml.add_bos_token", flag(bosTokenId !== undefined && around[0] === bosTokenId));
  metadata.set("tokenizer.ggml.add_eos_token", flag(eosTokenId !== undefined && around.at(-1) === eosTokenId));
  return metadata;
}

/**
 * Tokens that end an answer beside the end of a text, as generation_config.json lists them: the file has room for two, the ends of
 * a turn and of a message.
 */
export function endTokenMetadata(eosTokenIds: readonly number[], { eosTokenId }: Tokenizer): Map<string, GgufValue> {
  const [turn, message] = eosTokenIds.filter((at) => at !== eosTokenId);
  const metadata = new Map<string, GgufValue>();
  if (turn !== undefined) metadata.set("tokenizer.ggml.eot_token_id", uint32(turn));
  if (message !== undefined) metadata.set("tokenizer.ggml.eom_token_id", uint32(message));
  return metadata;
}

/** The templates by their names; the main one has none. */
export function templateMetadata({ templates }: TemplateSources): Map<string, GgufValue> {
  const key = "tokenizer.chat_template";
  return new Map([...templates].map(([name, source]) => [name === "default" ? key : `${key}.${name}`, text(source)]));
}

/** As many tokens as the embedding has rows: models are often wider than their tokenizer. */
function listTokens(tokenizer: Tokenizer, vocabSize: number): string[] {
  const length = Math.max(vocabSize, tokenizer.vocabSize);
  return Array.from({ length }, (_, at) => tokenizer.idToToken(at) ?? `[PAD${at}]`);
}

function typesOf(
  tokens: readonly string[],
  tokenizer: Tokenizer,
  files: TokenizerFiles,
  model: JsonObject,
): Int32Array {
  const added = new Map(readAddedTokens(files).map((token) => [token.id, token.special]));
  return Int32Array.from(tokens, (token, at) => {
    if (tokenizer.idToToken(at) === undefined) return tokenTypes.unused;
    if (token === model.unk_token) return tokenTypes.unknown;
    if (added.has(at)) return added.get(at) ? tokenTypes.control : tokenTypes.userDefined;
    return model.byte_fallback && /^<0x[0-9A-F]{2}>$/.test(token) ? tokenTypes.byte : tokenTypes.normal;
  });
}

/** A token's score is the rank of the first merge that makes it, less is better; tokens that none makes come last. */
function scoresOf(tokens: readonly string[], merges: readonly string[]): Float32Array {
  const ranks = new Map<string, number>();
  for (const [rank, merge] of merges.entries()) {
    const made = merge.replace(" ", "");
    if (!ranks.has(made)) ranks.set(made, rank);
  }
  return Float32Array.from(tokens, (token) => -(ranks.get(token) ?? merges.length));
}
