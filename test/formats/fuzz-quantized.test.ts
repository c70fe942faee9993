import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { dtypeFromSafetensors } from "../../src/base/dtype.ts";
import { fourBitLevels } from "../../src/base/four-bit.ts";
import { ggmlType } from "../../src/base/ggml.ts";
import { inspect } from "../../src/cli/inspect/inspect.ts";
import { parseGguf } from "../../src/formats/gguf/header.ts";
import { ggufTokenizerFiles } from "../../src/formats/gguf/tokenizer.ts";
import { text } from "../../src/formats/gguf/values.ts";
import { type GgufTensorToWrite, writeGguf } from "../../src/formats/gguf/write.ts";
import { parseJsonObject } from "../../src/formats/json.ts";
import { findModelFiles } from "../../src/formats/model-files/model-files.ts";
import { LoraAdapter } from "../../src/formats/peft/adapter.ts";
import { parseAdapterConfig } from "../../src/formats/peft/adapter-config.ts";
import { type TensorToWrite, writeSafetensors } from "../../src/formats/safetensors/write.ts";
import { storedBytes, storedWeights } from "../../src/formats/stored/stored-weights.ts";
import { Tokenizer } from "../../src/formats/tokenizer/tokenizer.ts";
import type { TensorInfo, WeightSource } from "../../src/formats/weight-source.ts";
import { modelMetadata } from "../support/gguf-metadata.ts";
import { fuzz, openFileCount, rewrite } from "./fuzzing.ts";
import { inMemory } from "./gguf/support.ts";
import { mutateBinary } from "./support.ts";

let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "llcuda-fuzz-quantized-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** A small whole model: everything that a reader looks at, in few bytes, so that faults hit it. */
function smallModel(kind: "gpt2" | "llama"): Buffer {
  const shape = { heads: 2, kvHeads: 1, headDim: 16, width: 32, layers: 1, ...(kind === "gpt2" && { experts: 2 }) };
  const metadata = modelMetadata(kind === "gpt2" ? "qwen3moe" : "llama", shape, { "rope.freq_base": 500_000 });
  const tokens =
    kind === "gpt2" ? ["a", "b", "c", "ab", "abc", "<s>", "<e>"] : ["<unk>", "<s>", "</s>", "<0x61>", "▁", "a", "▁a"];
  metadata.set("tokenizer.ggml.model", text(kind));
  metadata.set("tokenizer.ggml.pre", text("llama-bpe"));
  metadata.set("tokenizer.ggml.tokens", { type: "array", of: "string", value: tokens });
  metadata.set("tokenizer.ggml.token_type", { type: "array", of: "int32", value: Int32Array.of(1, 1, 1, 1, 1, 3, 3) });
  if (kind === "gpt2") metadata.set("tokenizer.ggml.merges", { type: "array", of: "string", value: ["a b", "ab c"] });
  else metadata.set("tokenizer.ggml.scores", { type: "array", of: "float32", value: new Float32Array(7) });
  metadata.set("tokenizer.ggml.bos_token_id", { type: "uint32", value: kind === "gpt2" ? 5 : 1 });
  metadata.set("tokenizer.ggml.eos_token_id", { type: "uint32", value: kind === "gpt2" ? 6 : 2 });
  metadata.set("tokenizer.chat_template", text("{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"));
  const tensor = (name: string, type: string, dims: readonly number[]): GgufTensorToWrite => {
    const ggml = ggmlType(type);
    const elements = dims.reduce((a, b) => a * b, 1);
    return {
      name,
      type: ggml,
      shape: dims,
      data: new Uint8Array((elements / ggml.blockElements) * ggml.blockBytes).fill(1),
    };
  };
  const path = join(scratch, `${kind}.gguf`);
  writeGguf(path, metadata, [
    tensor("token_embd.weight", "Q8_0", [7, 32]),
    tensor("output_norm.weight", "F32", [32]),
    tensor("blk.0.attn_q.weight", "Q4_0", [32, 32]),
    tensor("blk.0.attn_k.weight", "F16", [16, 32]),
    ...(kind === "gpt2"
      ? [tensor("blk.0.ffn_up_exps.weight", "Q4_0", [2, 3, 32])]
      : [tensor("rope_freqs.weight", "F32", [8])]),
  ]);
  return readFileSync(path);
}

describe("damaged GGUF files never crash a reader", () => {
  test("headers: what is accepted lies in the file, apart", () => {
    const tally = { accepted: 0, refused: 0 };
    for (const kind of ["gpt2", "llama"] as const) {
      const read = (bytes: Uint8Array) => {
        const { tensors, metadata } = parseGguf(inMemory(bytes));
        let end = 0;
        for (const { byteOffset, byteLength } of tensors.values()) {
          if (byteOffset < end || byteLength < 1) throw new Error("tensors overlap");
          end = byteOffset + byteLength;
        }
        if (end > bytes.length) throw new Error("a tensor ends outside the file");
        if (metadata.entries.size > 200) throw new Error("more entries than were written");
      };
      const one = fuzz({ cases: 12_000, seed: 11, from: smallModel(kind), read, mutate: mutateBinary });
      tally.accepted += one.accepted;
      tally.refused += one.refused;
    }
    expect(tally.accepted).toBeGreaterThan(2000);
    expect(tally.refused).toBeGreaterThan(8000);
  });

  test("whole models: config, tokenizer, weights", () => {
    const before = openFileCount();
    const reach = { config: 0, tokenizer: 0, weights: 0 };
    for (const kind of ["gpt2", "llama"] as const) {
      const path = join(scratch, "mutated.gguf");
      const read = (bytes: Uint8Array) => {
        rewrite(path, bytes);
        const files = findModelFiles(path);
        const config = files.readConfig();
        if (config.numAttentionHeads % config.numKeyValueHeads !== 0) throw new Error("an unsound config was accepted");
        reach.config++;
        const tokenizer = new Tokenizer(files.readTokenizer());
        tokenizer.decode(tokenizer.encode("abc a <s> é"));
        reach.tokenizer++;
        files.readGenerationConfig();
        using weights = files.openWeights();
        for (const name of weights.tensors.keys()) weights.read(name);
        inspect(path);
        reach.weights++;
      };
      fuzz({ cases: 1000, seed: 12, from: smallModel(kind), read, mutate: mutateBinary });
    }
    expect(reach.config).toBeGreaterThan(300);
    expect(reach.tokenizer).toBeGreaterThan(200);
    expect(reach.weights).toBeGreaterThan(100);
    expect(openFileCount()).toBeLessThan(before + 4);
  });

  test("tokenizers alone", () => {
    const read = (bytes: Uint8Array) => {
      const tokenizer = new Tokenizer(ggufTokenizerFiles(parseGguf(inMemory(bytes)).metadata));
      tokenizer.decode(tokenizer.encode("abc a <s> é"));
    };
    const tally = fuzz({ cases: 3000, seed: 13, from: smallModel("llama"), read, mutate: mutateBinary });
    expect(tally.accepted).toBeGreaterThan(300);
  });

  test("memory stays near the size of the file, whatever it announces", () => {
    const from = smallModel("gpt2");
    const before = process.memoryUsage().rss;
    const read = (bytes: Uint8Array) => void parseGguf(inMemory(bytes));
    fuzz({ cases: 4000, seed: 14, from, read, mutate: mutateBinary });
    expect(process.memoryUsage().rss - before).toBeLessThan(200 << 20);
  });
});

describe("damaged adapters never crash a reader", () => {
  const config = {
    ...{ peft_type: "LORA", r: 4, lora_alpha: 8, use_rslora: true, use_dora: false, bias: "none" },
    ...{ target_modules: ["q_proj", "v_proj"], rank_pattern: { "self_attn.v_proj": 2 }, modules_to_save: ["lm_head"] },
    ...{ alpha_pattern: { "layers\\.\\d\\..*q_proj": 2.5 }, base_model_name_or_path: "../base" },
  };
  const module = "base_model.model.model.layers.0.self_attn";
  const tensors: TensorToWrite[] = [
    { name: `${module}.q_proj.lora_A.weight`, dtype: "float32", shape: [4, 6], data: new Float32Array(24) },
    { name: `${module}.q_proj.lora_B.weight`, dtype: "float32", shape: [5, 4], data: new Float32Array(20) },
    { name: `${module}.v_proj.lora_A.weight`, dtype: "float32", shape: [2, 6], data: new Float32Array(12) },
    { name: `${module}.v_proj.lora_B.weight`, dtype: "float32", shape: [5, 2], data: new Float32Array(10) },
    { name: "base_model.model.lm_head.weight", dtype: "float16", shape: [3, 6], data: new Uint16Array(18) },
  ];

  test("configs", () => {
    const read = (bytes: Uint8Array) => {
      const parsed = parseAdapterConfig(
        parseJsonObject(bytes, "adapter_config.json", "the config"),
        "adapter_config.json",
      );
      for (const name of ["q_proj", "model.layers.0.self_attn.v_proj", "x".repeat(200)]) {
        if (!(parsed.rankOf(name) > 0 && parsed.scaleOf(name) >= 0)) throw new Error("an unsound config was accepted");
      }
    };
    const tally = fuzz({ cases: 8000, seed: 15, from: Buffer.from(JSON.stringify(config)), read });
    expect(tally.accepted).toBeGreaterThan(500);
    expect(tally.refused).toBeGreaterThan(3000);
  });

  test("configs and weights together", () => {
    const directory = join(scratch, "adapter");
    mkdirSync(directory);
    const [configFile, weightsFile] = ["adapter_config.json", "adapter_model.safetensors"].map((n) =>
      join(directory, n),
    );
    writeFileSync(configFile!, JSON.stringify(config));
    writeSafetensors(weightsFile!, tensors);
    const before = openFileCount();
    const read = (bytes: Uint8Array) => {
      rewrite(weightsFile!, bytes);
      using lora = LoraAdapter.open(directory);
      for (const { rank, a, b } of lora.modules.values()) {
        if (a.shape[0] !== rank || b.shape[1] !== rank) throw new Error("an unsound module was accepted");
      }
    };
    const tally = fuzz({ cases: 1500, seed: 16, from: readFileSync(weightsFile!), read });
    expect(tally.refused).toBeGreaterThan(700);
    expect(openFileCount()).toBeLessThan(before + 4);
  });
});

/** Tensors in memory. */
function sourceOf(tensors: Readonly<Record<string, { dtype: string; data: Uint8Array }>>): WeightSource {
  const infos = Object.entries(tensors).map(([name, { dtype, data }]): TensorInfo => {
    const elementType = dtypeFromSafetensors(dtype)!;
    const shape = [data.length / elementType.bytes];
    return { name, dtype, elementType, shape, file: "test", byteOffset: 0, byteLength: data.length };
  });
  const copy = ({ name }: TensorInfo, offset: number, target: Uint8Array) =>
    target.set(tensors[name]!.data.subarray(offset, offset + target.length));
  return {
    tensors: new Map(infos.map((info) => [info.name, info])),
    totalBytes: 0,
    read: (name) => tensors[name]!.data.slice(),
    readInto: async (...args) => copy(...args),
    readIntoSync: copy,
    close: () => {},
    [Symbol.dispose]: () => {},
  };
}

test("damaged states of 4-bit weights never crash a reader", () => {
  const state = { quant_type: "nf4", blocksize: 64, dtype: "bfloat16", shape: [10, 33] };
  const nested = { nested_blocksize: 256, nested_dtype: "float32", nested_offset: 0.25 };
  const levels = new Uint8Array(fourBitLevels.nf4.buffer);
  const read = (bytes: Uint8Array) => {
    const source = sourceOf({
      "w.weight": { dtype: "U8", data: new Uint8Array(165) },
      "w.weight.absmax": { dtype: "U8", data: new Uint8Array(6) },
      "w.weight.quant_map": { dtype: "F32", data: levels },
      "w.weight.nested_absmax": { dtype: "F32", data: new Uint8Array(4) },
      "w.weight.nested_quant_map": { dtype: "F32", data: new Uint8Array(1024) },
      "w.weight.quant_state.bitsandbytes__nf4": { dtype: "U8", data: bytes },
    });
    const weights = [...storedWeights(source).values()];
    if (weights.length !== 1 || storedBytes(weights[0]!) !== 165 + 6 + 4 + 1024) throw new Error("an unsound weight");
  };
  const from = Buffer.from(JSON.stringify({ ...state, ...nested }));
  const tally = fuzz({ cases: 6000, seed: 17, from, read });
  expect(tally.refused).toBeGreaterThan(3000);
  expect(tally.accepted).toBeGreaterThan(100);
});
