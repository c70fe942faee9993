import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { llcuda } from "./run.ts";

const folder = mkdtempSync(join(tmpdir(), "llcuda-cli-quantize-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const fixtures = fileURLToPath(new URL("../fixtures/", import.meta.url));
const demo = fileURLToPath(new URL("../../models/demo/", import.meta.url));
const sim = { LLCUDA_DEVICE: "sim:sm_80" };

/** One sentence, exit code 2, and nothing written. */
async function expectRefusal(args: readonly string[], words: readonly string[]): Promise<void> {
  const before = readdirSync(folder).sort();
  // A device that is not there: what is wrong with the input must be said first.
  const { code, stdout, stderr } = await llcuda(["quantize", ...args, "--device", "cuda:0"]);
  expect(stderr).toMatch(/^llcuda: [^\n]+\n$/);
  for (const word of words) expect(stderr).toContain(word);
  expect(stdout).toBe("");
  expect(code).toBe(2);
  expect(readdirSync(folder).sort()).toEqual(before);
}

describe("llcuda quantize", () => {
  test("writes a folder and says what is in it; a second time only with --force", async () => {
    const out = join(folder, "nf4");
    const { code, stdout } = await llcuda(["quantize", "demo", out, "--to", "nf4-dq"], sim);
    expect(code).toBe(0);
    expect(stdout).toMatch(/nf4: 38 weights, 1\.\d MB\n/);
    expect(stdout).toMatch(/nf4 \(double quantization\) +28 weights/);
    const text = readFileSync(join(out, "config.json"), "utf8");
    // transformers refuses a threshold that is no float.
    expect(text).toContain('"llm_int8_threshold": 6.0,');
    expect(JSON.parse(text).quantization_config).toEqual({
      _load_in_4bit: true,
      _load_in_8bit: false,
      bnb_4bit_compute_dtype: "float16",
      bnb_4bit_quant_storage: "uint8",
      bnb_4bit_quant_type: "nf4",
      bnb_4bit_use_double_quant: true,
      llm_int8_enable_fp32_cpu_offload: false,
      llm_int8_has_fp16_weight: false,
      llm_int8_skip_modules: null,
      llm_int8_threshold: 6,
      load_in_4bit: true,
      load_in_8bit: false,
      quant_method: "bitsandbytes",
    });
    for (const name of ["tokenizer.json", "chat_template.jinja", "generation_config.json"]) {
      expect(readFileSync(join(out, name))).toEqual(readFileSync(join(demo, name)));
    }
    await expectRefusal(["demo", out, "--to", "bf16"], [out, "exists already", "force"]);
    const forced = await llcuda(["quantize", "demo", out, "--to", "bf16", "--force", "--json"], sim);
    expect(JSON.parse(forced.stdout)).toMatchObject({ path: out, tensors: 38 });
    const config = JSON.parse(readFileSync(join(out, "config.json"), "utf8"));
    expect(config).toMatchObject({ dtype: "bfloat16" });
    expect(config).not.toHaveProperty("quantization_config");
    expect(readdirSync(folder).filter((name) => name.startsWith("."))).toEqual([]);
  });

  test("leaves modules in 16 bits", async () => {
    const out = join(folder, "kept");
    const args = ["quantize", "demo", out, "--to", "nf4", "--keep", "layers.1", "--keep", "q_proj", "--json"];
    const { stdout } = await llcuda(args, sim);
    expect(JSON.parse(stdout).types).toMatchObject([
      { type: "float16", weights: 20 },
      { type: "nf4", weights: 18 },
    ]);
  });

  test("writes a GGUF file, whole or not at all", async () => {
    const out = join(folder, "demo.gguf");
    const { code, stdout } = await llcuda(["quantize", "demo", out, "--to", "Q8_0"]); // no device is needed
    expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.stringMatching(/Q8_0 +29 weights/) });
    const inspected = JSON.parse((await llcuda(["inspect", out, "--json"])).stdout);
    expect(inspected.types.map((one: { type: string }) => one.type)).toEqual(["Q8_0", "float32"]);
    expect((await llcuda(["tokenize", out, "hi", "--ids"])).stdout).toBe("1019 407\n");
    await expectRefusal(["demo", out, "--to", "q4_0"], ["exists already"]);
    await expectRefusal([out, out, "--to", "q4_0", "--force"], ["model that is being read"]);
  });

  test("writes a mixture of K types, also by llama.cpp's short name", async () => {
    const out = join(folder, "mixture.gguf");
    const { code, stdout } = await llcuda(["quantize", "demo", out, "--to", "Q4_K"], sim);
    expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.stringMatching(/Q4_K +24 .*\n +Q6_K +5 /) });
    await expectRefusal(["demo", join(folder, "x"), "--to", "q4_k_m"], ["ends in .gguf"]);
  });

  test("a type that is unknown, or that this kind of file cannot hold", async () => {
    await expectRefusal(["demo", join(folder, "x"), "--to", "iq3_s"], ['"iq3_s"', "nf4", "q8_0", "q4_k_m"]);
    await expectRefusal(["demo", join(folder, "x.gguf"), "--to", "nf4"], ["cannot hold nf4", "directory"]);
    await expectRefusal(["demo", join(folder, "x"), "--to", "q8_0"], ["ends in .gguf"]);
    await expectRefusal(["demo", join(folder, "x"), "--to", "nf4", "--max-shard-size", "much"], ["5GB"]);
    await expectRefusal(["demo", join(folder, "x")], ["--to"]);
    await expectRefusal(["demo", join(folder, "x"), "--to", "nf4", "--pure"], ["GGUF files"]);
    await expectRefusal(
      ["demo", join(folder, "x.gguf"), "--to", "f16", "--max-shard-size", "1GB"],
      ["is one GGUF file"],
    );
    await expectRefusal(["demo", join(folder, "no/x.gguf"), "--to", "f16"], ["there is no such directory"]);
    await expectRefusal(["demo", join(demo, "config.json/x.gguf"), "--to", "f16"], ["no directory (ENOTDIR)"]);
    await expectRefusal(
      ["demo", join(folder, "x"), "--to", "bf16", "--keep", "layers.1"],
      ["bfloat16 quantizes nothing"],
    );
    await expectRefusal(["demo", join(folder, "x.gguf"), "--to", "f16", "--keep", "layers.1"], ["is a GGUF file"]);
    await expectRefusal(
      ["demo", join(folder, "x"), "--to", "nf4", "--keep", "q_proj", "--keep", "layers.4"],
      ['"layers.4"'],
    );
  });

  test("a source that is missing, damaged, or of a kind that is not read", async () => {
    const to = [join(folder, "x"), "--to", "bf16"];
    await expectRefusal([join(folder, "nothing"), ...to], ["nothing", "there is no such directory"]);
    const cut = mkdtempSync(join(tmpdir(), "llcuda-cut-"));
    cpSync(demo, cut, { recursive: true });
    writeFileSync(join(cut, "model.safetensors"), readFileSync(join(demo, "model.safetensors")).subarray(0, 1e6));
    await expectRefusal([cut, ...to], ["model.safetensors", "truncated"]);
    rmSync(cut, { recursive: true });
    const none = join(fixtures, "llama3-gqa-bf16");
    const { code, stderr } = await llcuda(["quantize", none, join(folder, "x.gguf"), "--to", "f16"], sim);
    expect({ code, stderr }).toMatchObject({ code: 2, stderr: expect.stringContaining("there is no tokenizer.json") });
    expect(readdirSync(folder).filter((name) => name.includes("x.gguf"))).toEqual([]);
  });

  test("weights that are not those of the config", async () => {
    const to = (name: string, change: object): string => {
      const directory = mkdtempSync(join(tmpdir(), "llcuda-other-"));
      cpSync(demo, directory, { recursive: true });
      const config = JSON.parse(readFileSync(join(demo, "config.json"), "utf8"));
      writeFileSync(join(directory, "config.json"), JSON.stringify({ ...config, ...change }));
      return join(directory, name);
    };
    for (const [change, words] of [
      [{ hidden_size: 512 }, ["embed_tokens.weight is [1024, 256]", "calls for [1024, 512]"]],
      [{ vocab_size: 9 }, ["calls for [9, 256]"]],
      [{ num_hidden_layers: 5 }, ["weights of 4 layers", "calls for 5"]],
      [{ num_hidden_layers: 3 }, ["weights of 4 layers", "calls for 3"]],
      [{ architectures: ["MambaForCausalLM"] }, ["MambaForCausalLM", "not supported"]],
    ] as const) {
      const source = to("", change);
      await expectRefusal([source, join(folder, "x"), "--to", "bf16"], words);
      await expectRefusal([source, join(folder, "x.gguf"), "--to", "q8_0"], words);
      rmSync(source, { recursive: true });
    }
  });

  test("a folder that holds no model is not replaced", async () => {
    const photos = join(folder, "photos");
    mkdirSync(photos);
    writeFileSync(join(photos, "cat.jpg"), "");
    await expectRefusal(["demo", photos, "--to", "bf16", "--force"], [photos, "holds no model"]);
    expect(readdirSync(photos)).toEqual(["cat.jpg"]);
  });
});
