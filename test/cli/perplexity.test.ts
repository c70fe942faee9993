import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { llcuda } from "./run.ts";

const sim = { LLCUDA_DEVICE: "sim:sm_80" };
const llama = fileURLToPath(new URL("../fixtures/llama3-gqa-bf16", import.meta.url));
let scratch = "";
const text = () => join(scratch, "text.txt");
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "llcuda-perplexity-"));
  writeFileSync(text(), "What is 41 + 17? 41 + 17 = 58. What is 20 + 20? 20 + 20 = 40.");
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const perplexity = (...args: string[]) => llcuda(["perplexity", ...args], sim);

describe("llcuda perplexity", () => {
  test("reads a text at once, or in windows, which know less", async () => {
    const whole = await perplexity("demo", "--text", text(), "--json");
    const result = JSON.parse(whole.stdout);
    expect(result).toMatchObject({ model: "demo", device: "sim:sm_80", dtype: "float16", window: 1024, stride: 512 });
    expect(result.perplexity).toBeCloseTo(Math.exp(result.meanNll), 9);
    expect(whole.code).toBe(0);
    const cut = await perplexity("demo", "--text", text(), "--window", "8", "--stride", "4");
    const [, figure] = /^demo on sim:sm_80, float16\n {2}perplexity {2}([\d.]+) ± [\d.]+\n/.exec(cut.stdout) ?? [];
    expect(Number(figure)).toBeGreaterThan(result.perplexity);
    expect(cut.stdout).toContain(`${result.tokens} predicted, in windows of 8, each 4 after the one before`);
    const fewer = await perplexity("demo", "--text", text(), "--max-tokens", "5");
    expect(fewer.stdout).toContain("4 predicted, read at once");
  });

  test("what cannot be measured is one sentence", async () => {
    const [empty, binary] = [join(scratch, "empty"), join(scratch, "binary")];
    writeFileSync(empty, "");
    writeFileSync(binary, Buffer.of(0xff, 0xfe, 0));
    for (const [args, words] of [
      [["demo", "--text", empty], /a text of at least 2 tokens, got \d/],
      [["demo", "--text", binary], /binary: it is not UTF-8/],
      [["demo", "--text", join(scratch, "no.txt")], /no.txt: there is no such file/],
      [["demo", "--window", "1025"], /window must be a whole number from 2 to 1024.* got 1025/],
      [["demo", "--window", "64", "--stride", "64"], /stride must be a whole number from 1 to 63.* got 64/],
      [["demo", "--max-tokens", "1"], /maxTokens must be a whole number of at least 2, got 1/],
      [[llama], /there is no tokenizer.json/],
    ] as const) {
      const { code, stdout, stderr } = await perplexity(...args);
      expect(stderr).toMatch(words);
      expect(stderr).toMatch(/^llcuda: [^\n]+\n$/);
      expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    }
  });
});
