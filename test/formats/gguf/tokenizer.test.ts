import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { FormatError, UnsupportedError } from "../../../src/base/errors.ts";
import { chatTemplateOf } from "../../../src/formats/chat-template/apply.ts";
import { readTemplateSources } from "../../../src/formats/chat-template/source.ts";
import { tokenizerMetadata as exportedMetadata, templateMetadata } from "../../../src/formats/gguf/export/tokenizer.ts";
import { GgufMetadata } from "../../../src/formats/gguf/metadata.ts";
import { mergesOfScores } from "../../../src/formats/gguf/sentencepiece.ts";
import { ggufEndTokens, ggufTemplates, ggufTokenizerFiles } from "../../../src/formats/gguf/tokenizer.ts";
import { flag, type GgufValue, text, uint32 } from "../../../src/formats/gguf/values.ts";
import { readTokenizerFiles } from "../../../src/formats/tokenizer/files.ts";
import { Tokenizer } from "../../../src/formats/tokenizer/tokenizer.ts";
import { tokenizerMetadata } from "../../support/gguf-tokenizer.ts";
import { thrownBy } from "../support.ts";

const fixtures = join(import.meta.dirname, "../../fixtures");
const demo = join(fixtures, "../../models/demo");

const metadataOf = (entries: ReadonlyMap<string, GgufValue>) => new GgufMetadata("model.gguf", entries);
const tokenizerOf = (entries: ReadonlyMap<string, GgufValue>) => new Tokenizer(ggufTokenizerFiles(metadataOf(entries)));

interface Vectors {
  encode: { text: string; ids: number[]; ids_plain: number[]; decoded: string; decoded_skip: string }[];
  chat: { messages: { role: string; content: string }[]; add_generation_prompt: boolean; rendered: string }[];
}

/** As an export embeds a tokenizer. */
function exported(directory: string): Map<string, GgufValue> {
  const { vocabSize } = Tokenizer.load(directory);
  return new Map([
    ...exportedMetadata(readTokenizerFiles(directory), vocabSize),
    ...templateMetadata(readTemplateSources(directory)),
  ]);
}

describe.each([
  ["tok-llama3", "llama-bpe", "llama.cpp's converter"],
  ["tok-qwen", "qwen2", "llama.cpp's converter"],
  ["tok-llama2", "default", "llama.cpp's converter"],
  ["tok-gemma", "default", "llama.cpp's converter"],
  ["tok-llama3", "llama3", "an export"],
  ["tok-qwen", "qwen2", "an export"],
  ["tok-llama2", "default", "an export"],
  ["tok-gemma", "default", "an export"],
])("%s, embedded as %s by %s, gives what transformers gives", (name, pre, by) => {
  const directory = join(fixtures, name);
  const vectors: Vectors = JSON.parse(readFileSync(join(directory, "vectors.json"), "utf8"));
  const entries = by === "an export" ? exported(directory) : tokenizerMetadata(directory, pre);
  const tokenizer = tokenizerOf(entries);

  test("words are cut by name", () => {
    expect(entries.get("tokenizer.ggml.pre")).toEqual({ type: "string", value: pre });
  });

  test("encoding", () => {
    expect(vectors.encode.length).toBe(30);
    for (const { text, ids, ids_plain } of vectors.encode) {
      expect(tokenizer.encode(text)).toEqual(ids);
      expect(tokenizer.encode(text, { addSpecialTokens: false })).toEqual(ids_plain);
    }
  });

  test("decoding", () => {
    for (const { ids, decoded, decoded_skip } of vectors.encode) {
      expect(tokenizer.decode(ids)).toBe(decoded);
      expect(tokenizer.decode(ids, { skipSpecialTokens: true })).toBe(decoded_skip);
    }
  });

  test("special tokens", () => {
    const original = Tokenizer.load(directory);
    expect(tokenizer.vocabSize).toBe(original.vocabSize);
    expect(tokenizer.specialTokens).toEqual(original.specialTokens);
    const ids = ({ bosTokenId, eosTokenId, padTokenId, unkTokenId }: Tokenizer) =>
      [bosTokenId, eosTokenId, padTokenId, unkTokenId].map((id) => id ?? -1);
    expect(ids(tokenizer)).toEqual(ids(original));
  });

  test("chat templates", () => {
    const template = chatTemplateOf(ggufTemplates(metadataOf(entries)), tokenizer);
    for (const { messages, add_generation_prompt, rendered } of vectors.chat) {
      expect(template.render(messages, { addGenerationPrompt: add_generation_prompt })).toBe(rendered);
    }
  });
});

describe("the demonstration model's tokenizer", () => {
  const tokenizer = tokenizerOf(tokenizerMetadata(demo, "qwen2"));
  const original = Tokenizer.load(demo);

  test("encodes and decodes every text of its evaluation alike", () => {
    const texts: string[] = [];
    const collect = (value: unknown): void => {
      if (typeof value === "string") texts.push(value);
      else if (value && typeof value === "object") Object.values(value).forEach(collect);
    };
    collect(JSON.parse(readFileSync(join(fixtures, "demo-chat/eval.json"), "utf8")));
    expect(texts.length).toBeGreaterThan(224);
    for (const text of texts) {
      const ids = original.encode(text);
      expect(tokenizer.encode(text)).toEqual(ids);
      expect(tokenizer.decode(ids)).toBe(original.decode(ids));
    }
  });

  test("special tokens written in text stay characters where that is asked for", () => {
    for (const text of ["<|eot_id|>", "a <|start_header_id|>system<|end_header_id|>"]) {
      const plain = tokenizer.encode(text, { specialTokens: "text" });
      expect(plain).toEqual(original.encode(text, { specialTokens: "text" }));
      expect(plain.slice(1).some((id) => tokenizer.isSpecial(id))).toBe(false);
    }
  });
});

/** A byte-level tokenizer of a few letters, with changes. */
function small(changes: Readonly<Record<string, GgufValue | undefined>> = {}): Map<string, GgufValue> {
  const entries = new Map<string, GgufValue>([
    ["tokenizer.ggml.model", { type: "string", value: "gpt2" }],
    ["tokenizer.ggml.pre", { type: "string", value: "gpt-2" }],
    ["tokenizer.ggml.tokens", { type: "array", of: "string", value: ["a", "b", "c", "ab", "<s>", "<e>", "<u>"] }],
    ["tokenizer.ggml.token_type", { type: "array", of: "int32", value: Int32Array.of(1, 1, 1, 1, 3, 3, 4) }],
    ["tokenizer.ggml.merges", { type: "array", of: "string", value: ["a b"] }],
    ["tokenizer.ggml.bos_token_id", { type: "uint32", value: 4 }],
    ["tokenizer.ggml.eos_token_id", { type: "uint32", value: 5 }],
  ]);
  for (const [key, value] of Object.entries(changes)) {
    if (value) entries.set(`tokenizer.${key}`, value);
    else entries.delete(`tokenizer.${key}`);
  }
  return entries;
}
const texts = (...value: string[]): GgufValue => ({ type: "array", of: "string", value });

describe("what is put around a text", () => {
  test.each<[string, Readonly<Record<string, GgufValue>>, number[]]>([
    ["nothing, as gpt2 files that do not say", {}, [3]],
    ["the beginning, as llama-bpe files that do not say", { "ggml.pre": text("llama-bpe") }, [4, 3]],
    ["the beginning", { "ggml.add_bos_token": flag(true) }, [4, 3]],
    ["beginning and end", { "ggml.add_bos_token": flag(true), "ggml.add_eos_token": flag(true) }, [4, 3, 5]],
    ["no beginning", { "ggml.pre": text("llama-bpe"), "ggml.add_bos_token": flag(false) }, [3]],
  ])("%s", (_, changes, ids) => {
    expect(tokenizerOf(small(changes)).encode("ab")).toEqual(ids);
  });

  test("user-defined tokens are matched whole and are not special", () => {
    const tokenizer = tokenizerOf(small());
    expect(tokenizer.encode("a<u>b<s>")).toEqual([0, 6, 1, 4]);
    expect(tokenizer.decode([0, 6, 4], { skipSpecialTokens: true })).toBe("a<u>");
  });
});

describe("what a tokenizer lacks is said", () => {
  test.each<[string, Readonly<Record<string, GgufValue | undefined>>, RegExp]>([
    ["no model", { "ggml.model": undefined }, /tokenizer.ggml.model is missing/],
    ["no tokens", { "ggml.tokens": undefined }, /tokenizer.ggml.tokens is missing; expected an array of strings/],
    ["an empty vocabulary", { "ggml.tokens": texts() }, /has 0 tokens/],
    ["a token twice", { "ggml.tokens": texts("a", "b", "a") }, /token "a" has the ids 0 and 2/],
    ["too few types", { "ggml.token_type": { type: "array", of: "int32", value: Int32Array.of(1) } }, /names 1 of 7/],
    ["no merges", { "ggml.merges": undefined }, /tokenizer.ggml.merges is missing/],
    ["a merge of one", { "ggml.merges": texts("a b", "ab") }, /merges holds "ab"; expected two tokens/],
    ["a beginning that has no token", { "ggml.bos_token_id": undefined, "ggml.add_bos_token": flag(true) }, /add_bos/],
    ["no scores", { "ggml.model": text("llama"), "ggml.merges": undefined }, /tokenizer.ggml.scores is missing/],
  ])("%s", (_, changes, message) => {
    const error = thrownBy(() => tokenizerOf(small(changes)));
    expect(error).toBeInstanceOf(FormatError);
    expect(error!.message).toMatch(message);
  });

  test("kinds that are not supported are named", () => {
    const refused = (changes: Readonly<Record<string, GgufValue>>) => thrownBy(() => tokenizerOf(small(changes)));
    expect(refused({ "ggml.model": text("bert") })).toBeInstanceOf(UnsupportedError);
    expect(refused({ "ggml.model": text("bert") })?.message).toMatch(
      /tokenizer "bert" is not supported; known are gpt2/,
    );
    expect(refused({ "ggml.pre": text("kimi-k2") })?.message).toMatch(/pre-tokenizer "kimi-k2" .* known are default, /);
  });

  test("an id outside the vocabulary is none", () => {
    const tokenizer = tokenizerOf(small({ "ggml.bos_token_id": { type: "uint32", value: 99 } }));
    expect(tokenizer.bosTokenId).toBeUndefined();
  });
});

test("end tokens are those of a text, a turn and a message", () => {
  const entries = small({ "ggml.eot_token_id": uint32(6), "ggml.eom_token_id": uint32(5) });
  expect(ggufEndTokens(metadataOf(entries))).toEqual([5, 6]);
});

describe("templates", () => {
  test("one, or several with names", () => {
    const entries = small({ chat_template: text("main"), "chat_template.tool_use": text("tools") });
    expect([...ggufTemplates(metadataOf(entries)).templates]).toEqual([
      ["default", "main"],
      ["tool_use", "tools"],
    ]);
    expect(thrownBy(() => ggufTemplates(metadataOf(small())))).toBeInstanceOf(UnsupportedError);
  });
});

test("scores imply every cut into two tokens, the best score first, then the longer left side", () => {
  const tokens = ["a", "b", "ab", "aba", "ba", "x", "ax"];
  const scores = [0, 0, -1, -3, -2, -9, 5];
  expect(mergesOfScores(tokens, scores, (id) => tokens[id] !== "x")).toEqual([
    ["a", "b"],
    ["b", "a"],
    ["ab", "a"],
    ["a", "ba"],
  ]);
  expect(mergesOfScores(["a", "b", "ab", "bb", "abb"], [0, 0, 0, 0, 0], () => true)).toEqual([
    ["ab", "b"],
    ["a", "bb"],
    ["a", "b"],
    ["b", "b"],
  ]);
});
