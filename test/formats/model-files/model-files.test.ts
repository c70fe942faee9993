import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { float16 } from "../../../src/base/dtype.ts";
import { ArgumentError, FileError } from "../../../src/base/errors.ts";
import { writeGguf } from "../../../src/formats/gguf/write.ts";
import { findModelFiles } from "../../../src/formats/model-files/model-files.ts";
import { Tokenizer } from "../../../src/formats/tokenizer/tokenizer.ts";
import { writeModelGguf } from "../../support/gguf-model.ts";
import { tokenizerMetadata } from "../../support/gguf-tokenizer.ts";
import { thrownBy } from "../support.ts";

const fixtures = join(import.meta.dirname, "../../fixtures");
const demo = join(fixtures, "../../models/demo");
const quantized = join(fixtures, "demo-chat.Q4_K_M.gguf");
let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "llcuda-model-files-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** A directory with empty files of these names. */
function folder(name: string, ...files: string[]): string {
  const directory = join(scratch, name);
  mkdirSync(directory);
  for (const file of files) writeFileSync(join(directory, file), "");
  return directory;
}

test("a checkpoint and the GGUF file made of it are the same model", () => {
  const path = join(scratch, "demo.gguf");
  writeModelGguf(demo, path, { pre: "qwen2", dtype: float16 });
  const [gguf, checkpoint] = [findModelFiles(path), findModelFiles(demo)];
  expect([gguf.form, checkpoint.form]).toEqual(["gguf", "huggingface"]);
  expect(gguf.readConfig()).toMatchObject({ architecture: "LlamaForCausalLM", vocabSize: 1024, headDim: 64 });
  expect(gguf.readGenerationConfig().eosTokenIds).toEqual([1023]);
  const text = "What is 41 + 17?";
  expect(new Tokenizer(gguf.readTokenizer()).encode(text)).toEqual(
    new Tokenizer(checkpoint.readTokenizer()).encode(text),
  );
  expect([...gguf.readTemplates().templates]).toEqual([...checkpoint.readTemplates().templates]);
  using ours = gguf.openWeights();
  using theirs = checkpoint.openWeights();
  expect([...ours.tensors.keys()].sort()).toEqual([...theirs.tensors.keys()].sort());
  for (const name of ours.tensors.keys()) {
    if (ours.tensors.get(name)!.dtype !== theirs.tensors.get(name)!.dtype) continue; // norms are float32 in GGUF
    expect(Buffer.compare(ours.read(name), theirs.read(name))).toBe(0);
  }
});

test("where a reference run is looked for", () => {
  expect(findModelFiles(quantized).expectedFile).toBe(join(fixtures, "demo-chat.Q4_K_M.expected.safetensors"));
  expect(findModelFiles(demo).expectedFile).toBe(join(demo, "expected.safetensors"));
});

test("a folder with one GGUF model is that model, also beside a config.json", () => {
  const directory = folder("one", "config.json", "mmproj-one.gguf");
  cpSync(quantized, join(directory, "one.gguf"));
  expect(findModelFiles(directory)).toMatchObject({ form: "gguf", path: join(directory, "one.gguf") });
  expect(findModelFiles(folder("both", "a.gguf", "model.safetensors")).form).toBe("huggingface");
  const parts = folder("parts", "a-00001-of-00002.gguf", "a-00002-of-00002.gguf");
  expect(findModelFiles(parts).path).toBe(join(parts, "a-00001-of-00002.gguf"));
});

test("a folder with several asks which", () => {
  const error = thrownBy(() => findModelFiles(folder("several", "a.Q4_0.gguf", "a.Q8_0.gguf")));
  expect(error).toBeInstanceOf(ArgumentError);
  expect(error!.message).toMatch(/2 GGUF models \(a.Q4_0.gguf, a.Q8_0.gguf\); give the path of one/);
});

test("other files, and none", () => {
  expect(thrownBy(() => findModelFiles(join(demo, "config.json")))?.message).toMatch(/this is a file; give the dir/);
  expect(thrownBy(() => findModelFiles(join(scratch, "nowhere")))).toBeInstanceOf(FileError);
});

test("nothing is read before it is asked for", () => {
  const bad = join(scratch, "bad.gguf");
  writeFileSync(bad, "GGUF");
  const files = findModelFiles(bad);
  const message = /the version needs 4 bytes but 0 follow/;
  expect(thrownBy(() => files.readConfig())?.message).toMatch(message);
  expect(thrownBy(() => files.openWeights())?.message).toMatch(message);
});

test("the tokenizer of a GGUF model serves also where its architecture is not known", () => {
  const path = join(scratch, "unknown.gguf");
  const metadata = tokenizerMetadata(demo, "qwen2").set("general.architecture", { type: "string", value: "mamba" });
  writeGguf(path, metadata, []);
  const files = findModelFiles(path);
  expect(new Tokenizer(files.readTokenizer()).encode("hi")).toEqual([1019, 407]);
  expect(thrownBy(() => files.readConfig())?.message).toMatch(/architecture "mamba" is not supported/);
});
