import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { exportCheckpoint } from "../../src/models/export/checkpoint.ts";
import { findModel } from "../../src/models/find-model.ts";
import { Variant } from "../models/variant.ts";
import { llcuda } from "./run.ts";

const llama = fileURLToPath(new URL("../fixtures/llama3-gqa-bf16", import.meta.url));
const other160 = fileURLToPath(new URL("../fixtures/qwen3-moe-12x4", import.meta.url));
const sim = { LLCUDA_DEVICE: "sim:sm_80" };
let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "llcuda-verify-two-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const verify = (...args: string[]) => llcuda(["verify", ...args], sim);

describe("llcuda verify with two models", () => {
  test("the same weights do not differ; other ones do, and by how much is said", async () => {
    const copy = join(scratch, "copy");
    const noDevice = (): never => {
      throw new Error("no device is needed");
    };
    await exportCheckpoint(findModel(llama), copy, noDevice, { format: "float32" });
    const same = await verify(llama, copy, "--dtype", "float32", "--max-kl", "0", "--max-tokens", "48");
    expect(same.stdout).toMatch(/on 48 tokens\n.*mean 0.0000.*\n +top-1 agreement +100.0 %\npassed/);
    expect(same.code).toBe(0);
    const scaled = (data: Float32Array, name: string) =>
      /q_proj/.test(name) ? data.map((weight) => weight * 1.5) : data;
    using other = new Variant("llama3-gqa-bf16", {}, (all) =>
      all.map((one) => ({ ...one, data: scaled(one.data, one.name) })),
    );
    const different = await verify(llama, other.directory, "--json", "--max-kl", "1e-9", "--max-tokens", "48");
    const result = JSON.parse(different.stdout);
    expect(result).toMatchObject({ a: llama, passed: false, tokens: 48, maxMeanKl: 1e-9 });
    expect(result.meanKl).toBeGreaterThan(1e-9);
    expect(result.maxKl).toBeGreaterThanOrEqual(result.p99Kl);
    expect(different.code).toBe(1);
  });

  test("a text is read by both tokenizers", async () => {
    const text = join(scratch, "text.txt");
    writeFileSync(text, "What is 41 + 17?");
    const { stdout, code } = await verify("demo", "demo", "--text", text);
    expect(stdout).toMatch(/^demo against demo, on \d\d? tokens\n/);
    expect(code).toBe(0);
  });

  test("what cannot be compared is one sentence", async () => {
    const binary = join(scratch, "binary");
    writeFileSync(binary, Buffer.of(0xff, 0xfe, 0));
    const empty = join(scratch, "empty.txt");
    writeFileSync(empty, "");
    for (const [args, words] of [
      [[llama, join(scratch, "nothing")], /nothing: there is no such directory/],
      [[llama, other160], /vocabulary has 160 tokens/],
      [[llama, llama, "--text", join(scratch, "no.txt")], /no.txt: there is no such file/],
      [["demo", "demo", "--text", binary], /not UTF-8/],
      [["demo", "demo", "--text", empty], /the text to compare models on is empty/],
      [[llama, llama, "--max-kl", "-1"], /--max-kl must be a number of at least 0/],
      [[llama, llama, "--max-tokens", "0"], /maxTokens must be a positive integer/],
      [["demo", llama], /vocabulary has 320 tokens, that of .* 1024/],
    ] as const) {
      const { code, stdout, stderr } = await verify(...args);
      expect(stderr).toMatch(words);
      expect(stderr).toMatch(/^llcuda: [^\n]+\n$/);
      expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    }
  });
});
