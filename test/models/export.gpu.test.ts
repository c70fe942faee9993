import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { float16 } from "../../src/base/dtype.ts";
import { decodeArray, encodeArray } from "../../src/base/element.ts";
import type { Device } from "../../src/driver/device.ts";
import { type FromPretrainedOptions, LanguageModel } from "../../src/engine/language-model.ts";
import { readModelConfig } from "../../src/formats/config/model-config.ts";
import { GgufFile } from "../../src/formats/gguf/file.ts";
import { openCheckpoint } from "../../src/formats/safetensors/checkpoint.ts";
import type { Decoder } from "../../src/models/decoder.ts";
import { exportGguf } from "../../src/models/export/gguf.ts";
import { quantizeModel } from "../../src/models/export/quantize-model.ts";
import { findModel } from "../../src/models/find-model.ts";
import type { Linear } from "../../src/nn/linear.ts";
import { pair, TemporaryAdapter } from "../support/adapter.ts";
import { describeGpu, gpu } from "../support/gpu.ts";
import { writeSmallTokenizer } from "../support/small-tokenizer.ts";
import { fixtures, type Values, Variant } from "./variant.ts";

const demo = fileURLToPath(new URL("../../models/demo/", import.meta.url));
const pathOf = (name: string) => (name === "demo" ? demo : join(fixtures, name));
let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "llcuda-export-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const sha256 = (file: string) => createHash("sha256").update(readFileSync(file)).digest("hex");

/** Logits of a prompt, as bits. */
async function logitsOf(path: string, device: Device, options: FromPretrainedOptions = {}): Promise<Uint8Array> {
  using model = await LanguageModel.fromPretrained(path, { device, ...options });
  using logits = await model.logits([1, 17, 5, 90, 44, 120, 3]);
  const { data } = logits.cpu();
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** Older devices hold bfloat16 checkpoints as float16, which is not what the files have. */
const holdsBfloat16 = (gpu?.attributes.capability ?? 80) >= 80;

describeGpu("savePretrained", (device) => {
  // The files were written by transformers, whose layout is ours: not only tensors are equal, but files.
  const bfloat16Cases = ["llama3-gqa-bf16", "gemma2", "phi3-fused", "qwen3-moe-12x4", "mixtral-5x3"];
  test.each(holdsBfloat16 ? [...bfloat16Cases, "demo"] : ["demo"])(
    "%s comes back bit by bit, with its config and logits",
    async (name) => {
      const saved = join(scratch, name);
      using model = await LanguageModel.fromPretrained(pathOf(name), { device });
      await model.savePretrained(saved);
      expect(sha256(join(saved, "model.safetensors"))).toBe(sha256(join(pathOf(name), "model.safetensors")));
      expect(readModelConfig(saved).raw).toEqual(readModelConfig(pathOf(name)).raw);
      expect(await logitsOf(saved, device)).toEqual(await logitsOf(pathOf(name), device));
    },
  );

  // Sums of what bitsandbytes 0.50 and transformers 5 wrote for these checkpoints.
  test.skipIf(!holdsBfloat16).each([
    ["qwen3-qknorm", "nf4", "37646c76cad823a30626d5120a39dd6e7369cce47ed873d878ae8a88483993b4"],
    ["llama3-gqa-bf16", "nf4-dq", "ae806b23e34ecb4943385d2cab39e771d0590dc373aef2ff32fd036355520016"],
  ] as const)("%s as %s is the file that bitsandbytes writes", async (name, format, sum) => {
    const saved = join(scratch, `${name}-${format}`);
    using model = await LanguageModel.fromPretrained(pathOf(name), { device });
    await model.savePretrained(saved, { format });
    expect(sha256(join(saved, "model.safetensors"))).toBe(sum);
  });
});

/** A golden checkpoint with a tokenizer, which GGUF files hold, and the scale of scores that they mean. */
function withTokenizer(name: string, rewrite?: (tensors: readonly Values[]) => readonly Values[]): Variant {
  const usualScale = (config: Record<string, unknown>) =>
    "query_pre_attn_scalar" in config ? { ...config, query_pre_attn_scalar: config.head_dim } : config;
  const variant = new Variant(name, usualScale, rewrite);
  writeSmallTokenizer(join(fixtures, "tok-llama3"), variant.directory, readModelConfig(variant.directory).vocabSize);
  return variant;
}

/** Plain weights are converted on the host. */
const noDevice = (): never => {
  throw new Error("no device is needed");
};

/** Over names and data of all tensors of a GGUF file, sorted by name. */
function tensorSum(path: string): string {
  using file = GgufFile.open(path);
  const hash = createHash("sha256");
  for (const name of [...file.tensors.keys()].sort()) {
    const { byteLength, byteOffset } = file.tensors.get(name)!;
    const bytes = new Uint8Array(byteLength);
    file.readSync(bytes, byteOffset);
    hash.update(name).update(bytes);
  }
  return hash.digest("hex");
}

describeGpu("export to GGUF", (device) => {
  // Sums of what llama.cpp v0.5.0 (x64) made of this model's float16 file.
  test.each([
    ["q8_0", "c53e3dca39147fc6e48a0e3f7debc9bbf09707a0512389400a3adc05878c85b5"],
    ["q4_0", "1ca6d082d91cf17b8050d0de27c1a5583c14a924560906da177b807c5093e080"],
    ["q5_1", "aa8fdb06e8b06932d4fa8e70f05f14bdda36de1999fab08e53166ab36d497350"],
  ] as const)("the demonstration model in %s has llama.cpp's bytes without a device", async (format, sum) => {
    const path = join(scratch, `demo.${format}.gguf`);
    await exportGguf(findModel(demo), path, noDevice, { format, pure: true });
    expect(tensorSum(path)).toBe(sum);
    using model = await LanguageModel.fromPretrained(path, { device });
    const { text } = await model.generate([{ role: "user", content: "What is 41 + 17?" }], { temperature: 0 });
    expect(text).toBe("41 + 17 = 58");
  });

  test.each([
    ["q2_k", "41e362a55438ca43d8139987e354a8848ce32faeb6d5e9b0f00b0d6231f1a1e7"],
    ["q3_k_s", "3d04c0ac71a23d7b88562c7b73682221e38dee127e61d581f05e1964d8a171d4"],
    ["q3_k_m", "1e230f2ad417b3ed1f7ad24e899376ece4d876d60885d41e5faecda56c657b22"],
    ["q3_k_l", "9e4bea8adeaa4d1cd9cc06b1c4fafa9868e70310f5fd478ca42ed4bf31ff83e8"],
    ["q4_k_s", "4822707c2458494aa511765f4ee481ba86b680d7c948d85f09800e3a721addf2"],
    ["q4_k_m", "7f6ed6037d414226eaaa137eb53f85352f73174d0170449f5e310cc7420b0bf0"],
    ["q5_k_s", "0be51af6e004da97b4f74ff195419dafd76b3ef25b3651262519db7d626be152"],
    ["q5_k_m", "f8ac61de0dc3981925d9160430a43feef1759e258c36f78c05e4d591728cb539"],
    ["q6_k", "0388b4dc548b9dd432689f66d1816650b972ccd923b32a4cb003e6bb661c6f11"],
    ["q4_k_m --pure", "68ccb255c86f4d676bb3c9fd33c80973249eedd438f0adf9d3bebea8812f5b03"],
  ])("the demonstration model in %s has llama.cpp's bytes, and answers", async (name, sum) => {
    const path = join(scratch, `demo.${name}.gguf`);
    const [to, pure] = [name.split(" ")[0]!, name.endsWith("--pure")];
    const before = device.memory.statistics().liveBuffers;
    await quantizeModel(demo, path, { to, pure, device: device.name });
    expect(device.memory.statistics().liveBuffers).toBe(before);
    expect(tensorSum(path)).toBe(sum);
    using model = await LanguageModel.fromPretrained(path, { device });
    const { text } = await model.generate([{ role: "user", content: "What is 41 + 17?" }], { temperature: 0 });
    expect(text).toBe("41 + 17 = 58");
  });

  test("K types of what is quantized already, and of values that no block can hold", async () => {
    const [eight, four] = [join(scratch, "eight.gguf"), join(scratch, "four.gguf")];
    await exportGguf(findModel(demo), eight, noDevice, { format: "q8_0" });
    await quantizeModel(eight, four, { to: "q4_k", device: device.name });
    // What llama.cpp makes of the same file, when it is allowed to quantize again.
    expect(tensorSum(four)).toBe("3d6d68307130017a2db4616bd9f7fb148c4c428e4615870b31f505868bdbf670");
    const name = "model.layers.1.mlp.down_proj.weight";
    using odd = withTokenizer("llama3-gqa-bf16", (tensors) => {
      tensors.find((tensor) => tensor.name === name)!.data[300] = Number.POSITIVE_INFINITY;
      return tensors;
    });
    const refused = quantizeModel(odd.directory, join(scratch, "odd.gguf"), { to: "q4_k_m", device: device.name });
    await expect(refused).rejects.toThrow(`${name}: it holds values that are not finite`);
    expect(readdirSync(scratch).filter((name) => name.includes("odd.gguf"))).toEqual([]);
  });

  test("the head keeps eight bits, unless everything is to have the type", async () => {
    const path = join(scratch, "head.gguf");
    const summary = await exportGguf(findModel(demo), path, noDevice, { format: "q4_1" });
    expect(summary.types.map(({ type, weights }) => [type, weights])).toEqual([
      ["Q4_1", 28],
      ["Q8_0", 1],
      ["F32", 9],
    ]);
  });

  // Through a file and back: permuted rows, norms with the one added, merged experts, tied heads, rotation.
  test.each(["llama3-gqa-bf16", "mistral-sliding", "qwen2-bias", "gemma2", "gemma3-text", "phi3-fused", "mixtral-5x3"])(
    "%s has the checkpoint's tensors and logits",
    async (name) => {
      using source = withTokenizer(name);
      const path = join(scratch, `${name}.gguf`);
      await exportGguf(findModel(source.directory), path, noDevice, { format: "bf16" });
      const back = join(scratch, `${name}-back`);
      await quantizeModel(path, back, { to: "bf16", device: device.name });
      expect(sha256(join(back, "model.safetensors"))).toBe(sha256(join(fixtures, name, "model.safetensors")));
      expect(await logitsOf(path, device)).toEqual(await logitsOf(source.directory, device));
      expect(readdirSync(back).sort()).toEqual(
        [
          "config.json",
          "generation_config.json",
          "model.safetensors",
          "tokenizer.json",
          "tokenizer_config.json",
        ].sort(),
      );
    },
  );
});

describeGpu("export of what is quantized", (device) => {
  test("NF4 gives 16-bit weights that quantize to the same codes", async () => {
    const on = { device: device.name };
    await quantizeModel(demo, join(scratch, "nf4"), { to: "nf4", ...on });
    await quantizeModel(join(scratch, "nf4"), join(scratch, "nf4-f32"), { to: "f32", ...on });
    await quantizeModel(join(scratch, "nf4"), join(scratch, "nf4-copy"), { to: "nf4", ...on });
    expect(sha256(join(scratch, "nf4-copy/model.safetensors"))).toBe(sha256(join(scratch, "nf4/model.safetensors")));
    using model = await LanguageModel.fromPretrained(join(scratch, "nf4-f32"), { device });
    const { text } = await model.generate([{ role: "user", content: "What is 41 + 17?" }], { temperature: 0 });
    expect(text).toBe("41 + 17 = 58");
  });

  test("a quantized model is saved as it was loaded, or was quantized on loading, and holds no memory for that", async () => {
    const quantizeTo = (to: string) =>
      quantizeModel(pathOf("llama3-gqa-bf16"), join(scratch, `loaded-${to}`), { to, device: device.name });
    await quantizeTo("nf4");
    await quantizeTo("nf4-dq");
    const before = device.memory.statistics().liveBuffers;
    for (const [source, options, like] of [
      [join(scratch, "loaded-nf4"), {}, "loaded-nf4"],
      [join(scratch, "loaded-nf4-dq"), {}, "loaded-nf4-dq"],
      [pathOf("llama3-gqa-bf16"), { quantization: "nf4" }, "loaded-nf4"],
    ] as const) {
      using model = await LanguageModel.fromPretrained(source, { device, ...options });
      const saved = join(scratch, "saved-quantized");
      await model.savePretrained(saved, { force: true });
      expect(sha256(join(saved, "model.safetensors"))).toBe(sha256(join(scratch, like, "model.safetensors")));
      expect(await logitsOf(saved, device)).toEqual(await logitsOf(join(scratch, like), device));
    }
    expect(device.memory.statistics().liveBuffers).toBe(before);
  });

  test.skipIf(!holdsBfloat16)("modules that are kept are the source's, and the others as without them", async () => {
    const name = "mixtral-5x3";
    const to = (directory: string, keep: readonly string[]) =>
      quantizeModel(pathOf(name), join(scratch, directory), { to: "nf4", device: device.name, keep });
    await to("experts-all", []);
    await to("experts-kept", ["experts", "layers.1.self_attn.o_proj"]);
    const bytesOf = (directory: string) => {
      using source = openCheckpoint(directory);
      return new Map([...source.tensors.keys()].map((tensor) => [tensor, Buffer.from(source.read(tensor))]));
    };
    const [plain, all, kept] = [pathOf(name), join(scratch, "experts-all"), join(scratch, "experts-kept")].map(bytesOf);
    const isKept = (tensor: string) => /\.experts\.|layers\.1\.self_attn\.o_proj/.test(tensor);
    for (const [tensor, bytes] of kept!) expect(bytes).toEqual((isKept(tensor) ? plain : all)!.get(tensor));
    expect(kept!.has("model.layers.0.self_attn.o_proj.weight.absmax")).toBe(true);
    const { quantization_config: quantization } = readModelConfig(join(scratch, "experts-kept")).raw as {
      quantization_config: { llm_int8_skip_modules: string[] };
    };
    expect(quantization.llm_int8_skip_modules.sort()).toEqual([
      "lm_head",
      "model.layers.0.block_sparse_moe.experts",
      "model.layers.0.block_sparse_moe.gate",
      "model.layers.1.block_sparse_moe.experts",
      "model.layers.1.block_sparse_moe.gate",
      "model.layers.1.self_attn.o_proj",
    ]);
    // Loaded and saved again it is the same file; of a source in NF4, what is kept is what its codes dequantize to.
    using model = await LanguageModel.fromPretrained(join(scratch, "experts-kept"), { device });
    await model.savePretrained(join(scratch, "experts-again"));
    expect(sha256(join(scratch, "experts-again/model.safetensors"))).toBe(
      sha256(join(scratch, "experts-kept/model.safetensors")),
    );
    using quantized = await LanguageModel.fromPretrained(join(scratch, "experts-all"), { device });
    await quantized.savePretrained(join(scratch, "experts-back"), { keep: ["experts"] });
    await quantized.savePretrained(join(scratch, "experts-16"), { format: "bfloat16" });
    const [back, dequantized] = [join(scratch, "experts-back"), join(scratch, "experts-16")].map(bytesOf);
    const expert = "model.layers.1.block_sparse_moe.experts.3.w2.weight";
    expect(back!.get(expert)).toEqual(dequantized!.get(expert));
    await expect(model.savePretrained(join(scratch, "x"), { format: "float16", keep: ["experts"] })).rejects.toThrow(
      /float16 quantizes nothing/,
    );
  });

  test("saveGguf writes what the network holds", async () => {
    const path = join(scratch, "saved.gguf");
    using model = await LanguageModel.fromPretrained(demo, { device });
    await model.saveGguf(path, { format: "q4_k_m" });
    expect(tensorSum(path)).toBe("7f6ed6037d414226eaaa137eb53f85352f73174d0170449f5e310cc7420b0bf0");
    await expect(model.saveGguf(path, { format: "q4_k_m" })).rejects.toThrow(/exists already/);
    await expect(model.saveGguf(join(scratch, "x.bin"), { format: "q8_0" })).rejects.toThrow(/ends in \.gguf/);
    const unknown = model.saveGguf(join(scratch, "x.gguf"), { format: "iq4_nl" as "q4_0" });
    await expect(unknown).rejects.toThrow(/"iq4_nl" is not known; use f32, .*q4_k_m/);
    // Not what the file has. Half of a float16 is one, or rounded where it is tiny.
    for (const parameter of model.network.parameters()) parameter.mul_(0.5);
    await model.saveGguf(path, { format: "f32", force: true });
    using halved = GgufFile.open(path);
    using source = openCheckpoint(demo);
    const name = "model.layers.2.mlp.down_proj.weight";
    const found = new Float32Array(halved.tensors.get("blk.2.ffn_down.weight")!.byteLength / 4);
    halved.readSync(new Uint8Array(found.buffer), halved.tensors.get("blk.2.ffn_down.weight")!.byteOffset);
    const original = decodeArray(float16, float16.view(source.read(name).slice()));
    const halves = encodeArray(
      float16,
      original.map((value) => value / 2),
    );
    expect(found).toEqual(Float32Array.from(decodeArray(float16, halves)));
  });

  test("a head that is no longer the embedding is saved as its own", async () => {
    using model = await LanguageModel.fromPretrained(demo, { device });
    const { head } = model.network as Decoder;
    const own = (head as Linear).weight.mul(2);
    (head as Linear).weight = own;
    await model.savePretrained(join(scratch, "untied"));
    await expect(model.saveGguf(join(scratch, "untied.gguf"), { format: "f16" })).rejects.toThrow(/its head was/);
    using saved = openCheckpoint(join(scratch, "untied"));
    const name = "lm_head.weight";
    const [written, embedding] = [name, "model.embed_tokens.weight"].map((one) =>
      decodeArray(float16, float16.view(saved.read(one).slice())),
    );
    expect(written).toEqual(embedding!.map((value) => 2 * value));
    expect(readModelConfig(join(scratch, "untied")).tieWordEmbeddings).toBe(false);
  });

  test("GGUF gives a folder with tokenizer and template, which answers", async () => {
    await quantizeModel(join(fixtures, "demo-chat.Q4_K_M.gguf"), join(scratch, "from-gguf"), {
      to: "fp16",
      device: device.name,
      maxShardBytes: 1_000_000,
    });
    expect(readdirSync(join(scratch, "from-gguf"))).toContain("model-00002-of-00006.safetensors");
    using model = await LanguageModel.fromPretrained(join(scratch, "from-gguf"), { device });
    const { text } = await model.generate([{ role: "user", content: "What is 41 + 17?" }], { temperature: 0 });
    expect(text).toBe("41 + 17 = 58");
  });

  test("a merged adapter is in what is saved, with the base's files; one beside the weights is refused", async () => {
    const adapter = join(fixtures, "lora-rslora-qv");
    const base = pathOf("llama3-gqa-bf16");
    using merged = await LanguageModel.fromPretrained(base, { device, adapter, merge: true });
    const saved = join(scratch, "merged");
    await merged.savePretrained(saved);
    expect(await logitsOf(saved, device)).toEqual(await logitsOf(base, device, { adapter, merge: true }));
    expect(await logitsOf(saved, device)).not.toEqual(await logitsOf(base, device));
    expect(readdirSync(saved).sort()).toEqual(["config.json", "generation_config.json", "model.safetensors"]);
    using beside = await LanguageModel.fromPretrained(base, { device, adapter });
    await expect(beside.savePretrained(join(scratch, "beside"))).rejects.toThrow(/adapters beside the weights/);
    await expect(quantizeModel(adapter, join(scratch, "x"), { to: "nf4" })).rejects.toThrow(/LoRA adapter/);
  });

  test("an adapter merged into a GGUF file is a GGUF file again, with the file's tokenizer", async () => {
    const [path, out] = [join(scratch, "adapted.gguf"), join(scratch, "adapted-again.gguf")];
    await exportGguf(findModel(demo), path, noDevice, { format: "f16" });
    using adapter = new TemporaryAdapter({ pairs: [pair("model.layers.0.mlp.down_proj", 8, 512, 256, 1)] });
    using merged = await LanguageModel.fromPretrained(path, { device, adapter: adapter.directory, merge: true });
    await merged.saveGguf(out, { format: "f16" });
    expect(await logitsOf(out, device)).toEqual(
      await logitsOf(path, device, { adapter: adapter.directory, merge: true }),
    );
    expect(await logitsOf(out, device)).not.toEqual(await logitsOf(path, device));
    using before = GgufFile.open(path);
    using after = GgufFile.open(out);
    for (const [key, value] of before.metadata.entries) {
      if (key !== "general.name") expect(after.metadata.entries.get(key)).toEqual(value);
    }
  });

  test.skipIf(!holdsBfloat16)("what was changed on the device is what is saved", async () => {
    using model = await LanguageModel.fromPretrained(pathOf("llama3-gqa-bf16"), { device });
    for (const parameter of model.network.parameters()) parameter.mul_(0.5);
    await model.savePretrained(join(scratch, "halved"), { format: "float32" });
    using before = openCheckpoint(pathOf("llama3-gqa-bf16"));
    using after = openCheckpoint(join(scratch, "halved"));
    for (const { name, elementType } of before.tensors.values()) {
      const values = decodeArray(elementType!, elementType!.view(before.read(name).slice()));
      const halved = new Float32Array(after.read(name).slice().buffer);
      expect(halved).toEqual(Float32Array.from(values, (value) => value / 2));
    }
  });
});
