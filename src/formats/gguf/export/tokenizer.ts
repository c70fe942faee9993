import { UnsupportedError } from "../../../base/errors.ts";
import type { TemplateSources } from "../../chat-template/source.ts";
import { isJsonObject, type JsonObject } from "../../json.ts";
import { readAddedTokens, type TokenizerFiles } from "../../tokenizer/files.ts";
import { Tokenizer } from "../../tokenizer/tokenizer.ts";
import { preTokenizerName } from "../pre-tokenizers.ts";
import { flag, type GgufValue, text, texts, uint32 } from "../values.ts";
import { isPhi3Name, phi3Keeps, tokenTypes } from "../vocabulary.ts";

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
  const tokens = listTokens(tokenizer, vocabSize, files);
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
    if (at !== undefined && at < vocabSize) metadata.set(`tokenizer.ggml.${role}_token_id`, uint32(at));
  }
  const around = tokenizer.encode("a");
  metadata.set("tokenizer.ggml.add_bos_token", flag(bosTokenId !== undefined && around[0] === bosTokenId));
  metadata.set("tokenizer.ggml.add_eos_token", flag(eosTokenId !== undefined && around.at(-1) === eosTokenId));
  return metadata;
}

/**
 * `general.name`: the model's own, changed where llama.cpp would read into it how special tokens are matched. A name with Phi-3's in
 * it means that they swallow the white space after them, and that the vocabulary has Phi-3's, without which it does not load.
 */
export function modelName(name: string, files: TokenizerFiles): string {
  const added = readAddedTokens(files);
  const contents = added.map(({ content }) => content);
  const swallow = added.some(({ rstrip }) => rstrip) && ["</s>", ...phi3Keeps].every((one) => contents.includes(one));
  if (isPhi3Name(name) === swallow) return name;
  return swallow ? `${name} (Phi-3)` : name.replace(/phi-?3/gi, "Phi 3");
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

/**
 * One token for each row of the embedding: models are often wider than their tokenizer, and llama.cpp loads nothing else. Added
 * tokens beyond it, such as that of images in the text models of Gemma 3, have no vector and are left out.
 */
function listTokens(tokenizer: Tokenizer, vocabSize: number, files: TokenizerFiles): string[] {
  const added = new Set(readAddedTokens(files).map(({ id }) => id));
  for (let at = vocabSize; at < tokenizer.vocabSize; at++) {
    const token = tokenizer.idToToken(at);
    if (token === undefined || added.has(at)) continue;
    throw new UnsupportedError(
      `${files.file}: its token ${JSON.stringify(token)} has the id ${at}, and the embedding has ${vocabSize} rows; tokenizer and weights do not belong together`,
    );
  }
  return Array.from({ length: vocabSize }, (_, at) => tokenizer.idToToken(at) ?? `[PAD${at}]`);
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
