import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ggmlType } from "../../src/base/ggml.ts";
import type { Inspection } from "../../src/cli/inspect/inspection.ts";
import { writeGguf } from "../../src/formats/gguf/write.ts";
import { writeSafetensors } from "../../src/formats/safetensors/write.ts";
import { modelMetadata } from "../support/gguf-metadata.ts";
import { llcuda } from "./run.ts";

const fixtures = fileURLToPath(new URL("../fixtures/", import.meta.url));
let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "llcuda-inspect-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

async function inspected(path: string): Promise<Inspection> {
  const { code, stdout, stderr } = await llcuda(["inspect", path, "--json"]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return JSON.parse(stdout);
}

describe("inspect", () => {
  test("a checkpoint: shape, types and memory, in text", async () => {
    const { code, stdout } = await llcuda(["inspect", "demo"]);
    expect(code).toBe(0);
    const lines = stdout.split("\n");
    expect(lines[0]).toBe("demo: HuggingFace checkpoint, LlamaForCausalLM, 2.6 million parameters");
    expect(lines[1]).toContain("4 layers of width 256, 4 heads of 64 (2 for keys and values), vocabulary 1024");
    expect(lines[2]).toContain("1024 tokens");
    expect(lines[3]).toMatch(/^weights +5\.2 MB: float16 5\.2 MB$/);
    // 4 layers · keys and values · 2 heads · 64 · 2 bytes · 1024 tokens
    expect(lines[4]).toMatch(/^cache +2\.1 MB for 1024 tokens in float16$/);
    expect(stdout).toMatch(/^model\.layers\.\*\.self_attn\.q_proj\.weight +× 4 +\[256, 256\] +524 KB +float16$/m);
    expect(stdout).not.toContain("does not run");
  });

  test("a GGUF file: the type of every module, and the bytes of its blocks", async () => {
    const found = await inspected(join(fixtures, "demo-chat.Q4_K_M.gguf"));
    expect(found).toMatchObject({ form: "gguf", architecture: "LlamaForCausalLM" });
    expect(found.cache).toEqual({ tokens: 1024, dtype: "float16", bytes: 2 ** 21, slidingBytes: 0 });
    const typesOf = (name: string) => found.modules.find((module) => module.name.includes(name))!.types;
    expect(typesOf("embed_tokens")).toEqual({ Q6_K: 1 });
    expect(typesOf("q_proj")).toEqual({ Q4_K: 4 });
    expect(typesOf("input_layernorm")).toEqual({ float32: 4 });
    expect(found.parameters).toBe((await inspected("demo")).parameters);
    // 1,662,976 elements of 144 bytes for 256, and so on: what the file's tensor table adds up to.
    expect(found.types.reduce((sum, type) => sum + type.bytes, 0)).toBe(found.weightBytes);
    expect(found.weightBytes).toBe(1_720_320);
  });

  test("sliding layers are counted with their window", async () => {
    const found = await inspected(join(fixtures, "gemma3-text"));
    const perToken = 2 * 64 * 2;
    expect(found.cache).toMatchObject({ slidingWindow: 32, slidingBytes: 6 * perToken * 32 });
    expect(found.cache!.bytes).toBe(perToken * (6 * 32 + 1024));
  });

  test("an architecture that is not known: what is in the file, and why it does not run", async () => {
    const path = join(scratch, "mamba.gguf");
    const metadata = modelMetadata("mamba", { heads: 1, kvHeads: 1, headDim: 4, width: 4 });
    writeGguf(path, metadata, [
      { name: "blk.0.ssm_a", type: ggmlType("F32"), shape: [4, 2], data: new Float32Array(8) },
    ]);
    const found = await inspected(path);
    expect(found).toMatchObject({ architecture: "mamba", parameters: 8, modules: [{ name: "blk.*.ssm_a", count: 1 }] });
    expect(found.refusal).toMatch(/architecture "mamba" is not supported/);
    expect((await llcuda(["inspect", path])).stdout).toMatch(/^does not run: .*mamba/m);
  });

  test("quantizations that llcuda does not read are named", async () => {
    const directory = join(scratch, "gptq");
    cpSync(join(fixtures, "qwen2-bias"), directory, { recursive: true });
    const names = ["q.qweight", "q.qzeros", "q.scales", "q.g_idx"];
    writeSafetensors(
      join(directory, "model.safetensors"),
      names.map((name) => ({ name, dtype: "int32", shape: [2], data: new Int32Array(2) })),
    );
    expect((await inspected(directory)).refusal).toMatch(/quantized with GPTQ/);
  });

  test("an adapter, and a file of tensors", async () => {
    const config = {
      peft_type: "LORA",
      r: 2,
      lora_alpha: 4,
      base_model_name_or_path: "../base",
      target_modules: ["q_proj"],
    };
    writeFileSync(join(scratch, "adapter_config.json"), JSON.stringify(config));
    const tensors = join(scratch, "adapter_model.safetensors");
    writeSafetensors(tensors, [
      { name: "base_model.model.q_proj.lora_A.weight", dtype: "float32", shape: [2, 6], data: new Float32Array(12) },
      { name: "base_model.model.q_proj.lora_B.weight", dtype: "float32", shape: [5, 2], data: new Float32Array(10) },
      { name: "base_model.model.lm_head.weight", dtype: "float16", shape: [3], data: new Uint16Array(3) },
    ]);
    const found = await inspected(scratch);
    expect(found).toMatchObject({ form: "adapter", parameters: 25, weightBytes: 94 });
    expect(found.adapter).toMatchObject({
      baseModel: "../base",
      ranks: [2],
      scales: [2],
      replaced: ["lm_head.weight"],
    });
    const text = (await llcuda(["inspect", scratch])).stdout;
    expect(text).toMatch(
      /LoRA adapter, 25 parameters\nbase +\.\.\/base\ntargets +q_proj\nrank +2, scale 2\nwhole +lm_head/,
    );
    expect(await inspected(tensors)).toMatchObject({ form: "safetensors", parameters: 25 });
  });

  test("what cannot be read is one sentence", async () => {
    const cut = join(scratch, "cut.gguf");
    writeFileSync(cut, "GGUF\u0003");
    for (const [path, words] of [
      ["./nowhere", "no such directory or file"],
      [cut, "the version needs 4 bytes but 1 follow"],
    ] as const) {
      const { code, stdout, stderr } = await llcuda(["inspect", path]);
      expect(stderr).toMatch(/^llcuda: [^\n]+\n$/);
      expect(stderr).toContain(words);
      expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    }
  });
});
