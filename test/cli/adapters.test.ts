import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "vitest";
import { pair, TemporaryAdapter } from "../support/adapter.ts";
import { llcuda } from "./run.ts";

const golden = fileURLToPath(new URL("../fixtures/lora-rslora-qv/", import.meta.url));
const base = fileURLToPath(new URL("../fixtures/llama3-gqa-bf16/", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "llcuda-cli-adapters-"));
const adapter = new TemporaryAdapter({
  pairs: [0, 1, 2, 3].map((i) => pair(`model.layers.${i}.mlp.down_proj`, 8, 512, 256, i)),
  config: { lora_alpha: 400, alpha_pattern: {}, base_model_name_or_path: "./nowhere" },
});
afterAll(() => {
  rmSync(folder, { recursive: true });
  adapter[Symbol.dispose]();
});
const sim = { LLCUDA_DEVICE: "sim:sm_80" };

async function answer(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await llcuda(["generate", ...args, "-p", "Once", "-t", "0", "-n", "6"], sim);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return stdout;
}

test("an adapter on a model, as a model, merged, and merged on disk answers alike", async () => {
  const out = join(folder, "merged");
  const written = await llcuda(["merge", "demo", adapter.directory, out], sim);
  expect(written.code).toBe(0);
  expect(written.stdout).toMatch(/merged: 38 weights, .*\n +float16 +38 weights/);
  const own = await answer("demo", "--adapter", adapter.directory);
  expect(own === (await answer("demo"))).toBe(false);
  expect(await answer(adapter.directory, "--base", "demo")).toBe(own);
  expect(await answer("demo", "--adapter", adapter.directory, "--merge")).toBe(own);
  expect(await answer(out)).toBe(own);
  const again = await llcuda(["merge", "demo", adapter.directory, out], sim);
  expect(again.code).toBe(2);
  expect(again.stderr).toMatch(/exists already/);
});

test("merged on disk it keeps the tokenizer and the template that it was saved with", async () => {
  const demo = fileURLToPath(new URL("../../models/demo/", import.meta.url));
  using tuned = new TemporaryAdapter({ pairs: [pair("model.layers.0.mlp.down_proj", 8, 512, 256, 1)] });
  for (const file of ["tokenizer.json", "tokenizer_config.json"]) {
    copyFileSync(join(demo, file), join(tuned.directory, file));
  }
  writeFileSync(join(tuned.directory, "chat_template.jinja"), "tuned");
  const out = join(folder, "tuned");
  expect((await llcuda(["merge", "demo", tuned.directory, out], sim)).code).toBe(0);
  expect(readFileSync(join(out, "chat_template.jinja"), "utf8")).toBe("tuned");
  expect(existsSync(join(out, "adapter_config.json"))).toBe(false);
});

test("verify finds an adapter's base and its reference", async () => {
  const { code, stdout } = await llcuda(["verify", golden, "--dtype", "float32", "--json"], sim);
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ passed: true, greedyMatched: 16 });
});

test.each<[string, string[], RegExp]>([
  ["a base that is not there", ["generate", adapter.directory, "-p", "a"], /nowhere.*--base/],
  [
    "an adapter on an adapter",
    ["generate", golden, "--adapter", adapter.directory, "-p", "a"],
    /this is an adapter already/,
  ],
  [
    "a directory that is none",
    ["generate", "demo", "--adapter", base, "-p", "a"],
    /adapter_config.json; this is not an adapter/,
  ],
  [
    "a base for a model of its own",
    ["generate", "demo", "--base", "demo", "-p", "a"],
    /a model of its own and no adapter/,
  ],
  ["another base", ["merge", "demo", golden, join(folder, "none")], /the adapter was trained on another base/],
  [
    "a name of a GGUF file",
    ["merge", base, golden, join(folder, "none.gguf")],
    /is written as a folder; quantize makes/,
  ],
  ["a type of GGUF files", ["merge", base, golden, join(folder, "none"), "--to", "q8_0"], /type "q8_0" is not known/],
])("%s is refused before a device is opened", async (_, args, message) => {
  const { code, stderr } = await llcuda([...args, "--device", "cuda:7"]);
  expect(stderr).toMatch(/^llcuda: [^\n]+\n$/);
  expect(stderr).toMatch(message);
  expect(code).toBe(2);
  expect(existsSync(join(folder, "none"))).toBe(false);
});
