import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { modelName, tokenizerMetadata } from "../../../../src/formats/gguf/export/tokenizer.ts";
import { GgufMetadata } from "../../../../src/formats/gguf/metadata.ts";
import { ggufTokenizerFiles } from "../../../../src/formats/gguf/tokenizer.ts";
import { readTokenizerFiles } from "../../../../src/formats/tokenizer/files.ts";
import { Tokenizer } from "../../../../src/formats/tokenizer/tokenizer.ts";

const llama2 = join(import.meta.dirname, "../../../fixtures/tok-llama2");
const scratch = mkdtempSync(join(tmpdir(), "llcuda-phi3-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** Llama 2's tokenizer with tokens added to it as Phi-3 has them. */
function withTokens(...added: readonly { content: string; rstrip?: boolean; special?: boolean }[]) {
  const json = JSON.parse(readFileSync(join(llama2, "tokenizer.json"), "utf8"));
  const plain = { lstrip: false, rstrip: false, single_word: false, normalized: false, special: true };
  const first = Object.keys(json.model.vocab).length;
  json.added_tokens.push(...added.map((token, i) => ({ ...plain, ...token, id: first + i })));
  for (const token of json.added_tokens)
    if (token.content === "</s>") token.rstrip = added.some(({ rstrip }) => rstrip);
  writeFileSync(join(scratch, "tokenizer.json"), JSON.stringify(json));
  writeFileSync(join(scratch, "tokenizer_config.json"), readFileSync(join(llama2, "tokenizer_config.json")));
  return { files: readTokenizerFiles(scratch), vocabSize: first + added.length };
}

const phi3 = [
  { content: "<|endoftext|>" },
  { content: "<|user|>", rstrip: true },
  { content: "<|end|>", rstrip: true },
];

describe("the name of a model", () => {
  test.each([
    ["Phi-3-mini", phi3, "Phi-3-mini"],
    ["my-tune", phi3, "my-tune (Phi-3)"],
    ["my-phi3", [{ content: "<|user|>" }], "my-Phi 3"],
    ["my-tune", [{ content: "<|user|>" }], "my-tune"],
    // Without the other tokens of Phi-3, llama.cpp does not load a file of that name.
    ["phi3", [{ content: "<|user|>", rstrip: true }], "Phi 3"],
  ])("%s with %o is %s", (name, added, expected) => {
    expect(modelName(name, withTokens(...added).files)).toBe(expected);
  });

  test("keeps white space after Phi-3's tokens swallowed", () => {
    const { files, vocabSize } = withTokens(...phi3);
    const metadata = tokenizerMetadata(files, vocabSize);
    metadata.set("general.name", { type: "string", value: modelName("tune", files) });
    const read = new Tokenizer(ggufTokenizerFiles(new GgufMetadata("test", metadata)));
    const original = new Tokenizer(files);
    const text = "<|user|>\n  Hello<|end|>\n<|endoftext|> a</s> b<s> c";
    expect(read.encode(text)).toEqual(original.encode(text));
    metadata.set("general.name", { type: "string", value: "tune" });
    const other = new Tokenizer(ggufTokenizerFiles(new GgufMetadata("test", metadata)));
    expect(other.encode(text)).not.toEqual(original.encode(text));
  });
});

describe("a tokenizer beyond the embedding", () => {
  test("loses added tokens, which have no vector", () => {
    const { files, vocabSize } = withTokens({ content: "<image>" });
    const metadata = tokenizerMetadata(files, vocabSize - 1);
    const tokens = metadata.get("tokenizer.ggml.tokens");
    expect(tokens).toMatchObject({ type: "array" });
    const read = new Tokenizer(ggufTokenizerFiles(new GgufMetadata("test", metadata)));
    expect(read.vocabSize).toBe(vocabSize - 1);
    expect(read.encode("some text")).toEqual(new Tokenizer(files).encode("some text"));
  });

  test("is refused when words would be lost", () => {
    const { files } = withTokens();
    expect(() => tokenizerMetadata(files, 1000)).toThrow(/has the id 1000, and the embedding has 1000 rows/);
  });
});
