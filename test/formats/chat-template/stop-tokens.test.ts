import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { loadChatTemplate } from "../../../src/formats/chat-template/apply.ts";
import { stopTokenIds } from "../../../src/formats/chat-template/stop-tokens.ts";
import { parseGenerationConfig } from "../../../src/formats/config/generation-config.ts";
import { parseModelConfig } from "../../../src/formats/config/model-config.ts";
import { Tokenizer } from "../../../src/formats/tokenizer/tokenizer.ts";

const fixtures = join(import.meta.dirname, "../../fixtures");
const open = (name: string) => {
  const directory = join(fixtures, name);
  const tokenizer = Tokenizer.load(directory);
  return { tokenizer, template: loadChatTemplate(directory, tokenizer) };
};
const numbers = {
  vocab_size: 320,
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 1,
  num_attention_heads: 4,
};

describe("what ends an answer", () => {
  test.each<[string, string[]]>([
    ["tok-llama3", ["<|eot_id|>"]],
    ["tok-qwen", ["<|im_end|>"]],
    ["tok-llama2", ["</s>"]],
    // The tokenizer's end of text, and what its template ends a turn with.
    ["tok-gemma", ["<eos>", "<end_of_turn>"]],
  ])("with %s alone: %s", (name, tokens) => {
    const { tokenizer, template } = open(name);
    const ids = stopTokenIds({ tokenizer, template });
    expect(ids.map((id) => tokenizer.idToToken(id)).sort()).toEqual([...tokens].sort());
  });

  test("generation_config.json, config.json, the tokenizer and the template add up", () => {
    const { tokenizer, template } = open("tok-gemma");
    const turnEnd = tokenizer.tokenToId("<end_of_turn>")!;
    const generationConfig = parseGenerationConfig({ eos_token_id: [7, turnEnd] }, "generation_config.json");
    const config = parseModelConfig({ ...numbers, model_type: "gemma2", eos_token_id: 9 }, "config.json");
    const ids = stopTokenIds({ tokenizer, template, generationConfig, config });
    expect(ids).toEqual([...new Set([tokenizer.eosTokenId!, 7, 9, turnEnd])].sort((a, b) => a - b));
  });

  test("a family's end of text counts where config.json is silent, as in Gemma 3's text configs", () => {
    const { tokenizer } = open("tok-qwen");
    const config = parseModelConfig({ ...numbers, model_type: "gemma3_text" }, "config.json");
    expect(stopTokenIds({ tokenizer, config })).toContain(1);
  });
});
