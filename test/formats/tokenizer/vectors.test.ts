import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { applyChatTemplate, loadChatTemplate } from "../../../src/formats/chat-template/apply.ts";
import type { ChatMessage } from "../../../src/formats/chat-template/chat-template.ts";
import { stopTokenIds, turnEndTokenId } from "../../../src/formats/chat-template/stop-tokens.ts";
import { readGenerationConfig } from "../../../src/formats/config/generation-config.ts";
import { readModelConfig } from "../../../src/formats/config/model-config.ts";
import { Tokenizer } from "../../../src/formats/tokenizer/tokenizer.ts";

interface Vectors {
  encode: { text: string; ids: number[]; ids_plain: number[]; decoded: string; decoded_skip: string }[];
  chat: { messages: ChatMessage[]; add_generation_prompt: boolean; rendered: string }[];
}

const fixtures = join(import.meta.dirname, "../../fixtures");
const demo = join(fixtures, "../../models/demo");

describe.each(["tok-llama3", "tok-qwen", "tok-llama2", "tok-gemma"])("%s gives what transformers gives", (name) => {
  const directory = join(fixtures, name);
  const vectors: Vectors = JSON.parse(readFileSync(join(directory, "vectors.json"), "utf8"));
  const tokenizer = Tokenizer.load(directory);

  test("encoding", () => {
    expect(vectors.encode.length).toBe(30);
    for (const { text, ids, ids_plain } of vectors.encode) {
      expect(tokenizer.encode(text)).toEqual(ids);
      expect(tokenizer.encode(text, { addSpecialTokens: false })).toEqual(ids_plain);
    }
  });

  test("decoding, at once and token by token", () => {
    for (const { ids, decoded, decoded_skip } of vectors.encode) {
      expect(tokenizer.decode(ids)).toBe(decoded);
      expect(tokenizer.decode(ids, { skipSpecialTokens: true })).toBe(decoded_skip);
      const stream = tokenizer.stream();
      let text = "";
      for (const id of ids) text += stream.push(id);
      expect(text + stream.end()).toBe(decoded_skip);
    }
  });

  test("chat templates", () => {
    const template = loadChatTemplate(directory, tokenizer);
    expect(vectors.chat.length).toBe(6);
    for (const { messages, add_generation_prompt, rendered } of vectors.chat) {
      const options = { addGenerationPrompt: add_generation_prompt };
      expect(template.render(messages, options)).toBe(rendered);
      const applied = applyChatTemplate(tokenizer, template, messages, options);
      expect(applied.text).toBe(rendered);
      expect(applied.ids).toEqual(tokenizer.encode(rendered, { addSpecialTokens: false }));
      const bos = tokenizer.bosTokenId;
      if (bos !== undefined) expect(applied.ids.slice(0, 2).filter((id) => id === bos).length).toBe(1);
    }
  });
});

describe("tokens that end an answer", () => {
  test.each([
    ["tok-llama3", "<|eot_id|>"],
    ["tok-qwen", "<|im_end|>"],
    ["tok-llama2", "</s>"],
    ["tok-gemma", "<end_of_turn>"],
  ])("%s: the template ends a turn with %s", (name, token) => {
    const tokenizer = Tokenizer.load(join(fixtures, name));
    const template = loadChatTemplate(join(fixtures, name), tokenizer);
    expect(turnEndTokenId(tokenizer, template)).toBe(tokenizer.tokenToId(token)!);
  });

  test("they come from every source, once each", () => {
    const tokenizer = Tokenizer.load(join(fixtures, "tok-gemma"));
    const template = loadChatTemplate(join(fixtures, "tok-gemma"), tokenizer);
    expect(stopTokenIds({ tokenizer })).toEqual([1]);
    expect(stopTokenIds({ tokenizer, template })).toEqual([1, 5]);
    const config = { eosTokenIds: [106] };
    const generationConfig = { eosTokenIds: [1, 107] };
    expect(stopTokenIds({ tokenizer, template, config, generationConfig })).toEqual([1, 5, 106, 107]);
  });

  test("the demonstration model", () => {
    const tokenizer = Tokenizer.load(demo);
    const template = loadChatTemplate(demo, tokenizer);
    const config = readModelConfig(demo);
    const generationConfig = readGenerationConfig(demo);
    expect(stopTokenIds({ tokenizer, template, config, generationConfig })).toEqual([1020, 1023]);
    expect(tokenizer.vocabSize).toBe(config.vocabSize);
    expect([tokenizer.bosTokenId, tokenizer.eosTokenId, tokenizer.padTokenId]).toEqual([1019, 1023, 1020]);
  });
});

describe("the demonstration model's own text", () => {
  const tokenizer = Tokenizer.load(demo);
  const evaluation: unknown = JSON.parse(readFileSync(join(fixtures, "demo-chat/eval.json"), "utf8"));

  test("survives encoding and decoding", () => {
    const texts: string[] = [];
    const collect = (value: unknown): void => {
      if (typeof value === "string") texts.push(value);
      else if (value && typeof value === "object") Object.values(value).forEach(collect);
    };
    collect(evaluation);
    expect(texts.length).toBeGreaterThan(224);
    for (const text of texts) {
      expect(tokenizer.decode(tokenizer.encode(text, { addSpecialTokens: false }))).toBe(text);
    }
  });
});
