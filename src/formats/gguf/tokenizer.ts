import { UnsupportedError } from "../../base/errors.ts";
import type { TemplateSources } from "../chat-template/source.ts";
import { describeJson, type JsonObject } from "../json.ts";
import type { TokenizerFiles } from "../tokenizer/files.ts";
import type { GgufMetadata } from "./metadata.ts";
import { findPreTokenizer, preTokenizerJson } from "./pre-tokenizers.ts";
import { mergesOfScores } from "./sentencepiece.ts";
import { type GgufVocabulary, readVocabulary } from "./vocabulary.ts";

/** What differs between the two kinds of tokenizer. */
interface Kind {
  /** Fields of tokenizer.json. */
  readonly json: JsonObject;
  readonly addsBos: boolean;
  /** Ids where the file names none. */
  readonly defaults: Readonly<Record<string, number>>;
}

/** Roles by their names in tokenizer_config.json. */
const namedTokens = {
  bos_token: "bos",
  eos_token: "eos",
  pad_token: "padding",
  unk_token: "unknown",
  sep_token: "seperator", // as the format spells it
  mask_token: "mask",
} as const;

/**
 * The tokenizer that is embedded in a GGUF file, in the form of the HuggingFace files that it came from, so that it
 * encodes by the same code: `gpt2` (byte-level BPE) and `llama` (SentencePiece BPE with bytes as the last resort).
 * Throws UnsupportedError for other kinds, FormatError when what it needs is missing.
 */
export function ggufTokenizerFiles(metadata: GgufMetadata): TokenizerFiles {
  const vocabulary = readVocabulary(metadata);
  const { json, addsBos, defaults } = readKind(metadata, vocabulary);
  const ids = new Map<string, number>();
  for (const [name, role] of Object.entries(namedTokens)) {
    const id = vocabulary.named(role) ?? defaults[role];
    if (id !== undefined && id < vocabulary.tokens.length) ids.set(name, id);
  }
  const named = Object.fromEntries([...ids].map(([name, id]) => [name, vocabulary.tokens[id]!]));
  const around = (flag: string, name: string, byDefault: boolean): number[] => {
    const key = `tokenizer.ggml.add_${flag}_token`;
    const given = metadata.find("flag", key);
    const id = ids.get(name);
    if (given && id === undefined)
      throw metadata.error(key, `is true, but there is no tokenizer.ggml.${flag}_token_id`);
    return id !== undefined && (given ?? byDefault) ? [id] : [];
  };
  const before = around("bos", "bos_token", addsBos);
  const after = around("eos", "eos_token", false);
  const turnEnds = ["eot", "eom"].flatMap((role) => vocabulary.named(role) ?? []).map((id) => vocabulary.tokens[id]!);
  return {
    tokenizer: {
      version: "1.0",
      added_tokens: vocabulary.added,
      ...json,
      post_processor: surround(vocabulary, before, after),
    },
    config: { ...named, additional_special_tokens: turnEnds },
    specialTokensMap: {},
    addedTokens: {},
    file: metadata.file,
  };
}

/** The chat templates of a GGUF file by name. Throws UnsupportedError when it has none. */
export function ggufTemplates(metadata: GgufMetadata): TemplateSources {
  const key = "tokenizer.chat_template";
  const templates = new Map<string, string>();
  const main = metadata.find("text", key);
  if (main) templates.set("default", main);
  for (const name of metadata.entries.keys()) {
    if (name.startsWith(`${key}.`)) templates.set(name.slice(key.length + 1), metadata.require("text", name));
  }
  if (templates.size > 0) return { templates, file: metadata.file };
  throw new UnsupportedError(
    `${metadata.file}: the model has no chat template; it is probably a base model: use generate with a plain prompt`,
  );
}

/** The tokens that end an answer, where the file names more than the end of a text: ends of a turn and of a message. */
export function ggufEndTokens(metadata: GgufMetadata): number[] {
  const ids = ["eos", "eot", "eom"].map((role) => metadata.find("size", `tokenizer.ggml.${role}_token_id`));
  return [...new Set(ids.filter((id) => id !== undefined))];
}

function readKind(metadata: GgufMetadata, vocabulary: GgufVocabulary): Kind {
  const model = metadata.require("text", "tokenizer.ggml.model");
  if (model === "gpt2") return byteLevel(metadata, vocabulary);
  if (model === "llama") return sentencePiece(metadata, vocabulary);
  throw new UnsupportedError(`${metadata.file}: tokenizer "${model}" is not supported; known are gpt2 and llama`);
}

function byteLevel(metadata: GgufMetadata, { tokens, added }: GgufVocabulary): Kind {
  const pre = findPreTokenizer(metadata.find("text", "tokenizer.ggml.pre") || "default", metadata.file);
  const isAdded = new Set(added.map((token) => token.id));
  const merges = metadata.require("texts", "tokenizer.ggml.merges");
  const bad = merges.find((merge) => merge.indexOf(" ", 1) < 0);
  if (bad !== undefined)
    throw metadata.error("tokenizer.ggml.merges", `holds ${describeJson(bad)}; expected two tokens`);
  return {
    json: {
      normalizer: pre.composes ? { type: "NFC" } : null,
      pre_tokenizer: preTokenizerJson(pre),
      decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
      model: {
        type: "BPE",
        // Added tokens stay out: a word that happens to spell one must not become it.
        vocab: toIds(tokens, (id) => !isAdded.has(id)),
        merges,
        unk_token: null,
        byte_fallback: false,
        fuse_unk: false,
        ignore_merges: pre.ignoreMerges ?? false,
      },
    },
    addsBos: pre.addsBos ?? false,
    defaults: {},
  };
}

function sentencePiece(metadata: GgufMetadata, vocabulary: GgufVocabulary): Kind {
  const { tokens, added } = vocabulary;
  const defaults = { bos: 1, eos: 2, unknown: 0 };
  const prefix = metadata.find("flag", "tokenizer.ggml.add_space_prefix") ?? true;
  const unknown = tokens[vocabulary.named("unknown") ?? defaults.unknown]!;
  const isAdded = new Set(added.filter(({ content }) => content !== unknown).map((token) => token.id));
  const toSpace = { type: "Replace", pattern: { String: "▁" }, content: " " };
  const fromSpace = { type: "Replace", pattern: { String: " " }, content: "▁" };
  const strip = { type: "Strip", content: " ", start: 1, stop: 0 };
  return {
    json: {
      normalizer: prefix
        ? { type: "Sequence", normalizers: [{ type: "Prepend", prepend: "▁" }, fromSpace] }
        : fromSpace,
      pre_tokenizer: null,
      decoder: {
        type: "Sequence",
        decoders: [toSpace, { type: "ByteFallback" }, { type: "Fuse" }, ...(prefix ? [strip] : [])],
      },
      model: {
        type: "BPE",
        vocab: toIds(tokens, (id) => !isAdded.has(id)),
        merges: metadata.find("texts", "tokenizer.ggml.merges") ?? mergesOf(metadata, vocabulary),
        unk_token: unknown,
        byte_fallback: true,
        fuse_unk: true,
        ignore_merges: false,
      },
    },
    addsBos: true,
    defaults,
  };
}

function mergesOf(metadata: GgufMetadata, { tokens, isMerged }: GgufVocabulary): [string, string][] {
  const scores = metadata.require("numbers", "tokenizer.ggml.scores");
  if (scores.length < tokens.length) {
    throw metadata.error("tokenizer.ggml.scores", `names ${scores.length} of ${tokens.length} tokens`);
  }
  return mergesOfScores(tokens, scores, isMerged);
}

function toIds(tokens: readonly string[], keep: (id: number) => boolean): Record<string, number> {
  const ids: Record<string, number> = Object.create(null);
  for (const [id, token] of tokens.entries()) if (keep(id)) ids[token] = id;
  return ids;
}

/** The post-processor that puts tokens before and after a text. */
function surround({ tokens }: GgufVocabulary, before: readonly number[], after: readonly number[]): JsonObject {
  const special = (id: number) => ({ SpecialToken: { id: tokens[id]!, type_id: 0 } });
  const sequence = (id: string) => ({ Sequence: { id, type_id: 0 } });
  const single = [...before.map(special), sequence("A"), ...after.map(special)];
  return {
    type: "TemplateProcessing",
    single,
    pair: [...single, ...before.map(special), sequence("B"), ...after.map(special)],
    special_tokens: Object.fromEntries(
      [...before, ...after].map((id) => [tokens[id]!, { id: tokens[id]!, ids: [id], tokens: [tokens[id]!] }]),
    ),
  };
}
