import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FormatError, UnsupportedError } from "../../../src/base/errors.ts";
import { ggmlType } from "../../../src/base/ggml.ts";
import { parseModelConfig, readModelConfig } from "../../../src/formats/config/model-config.ts";
import { ggufConfig } from "../../../src/formats/gguf/config.ts";
import { GgufParts } from "../../../src/formats/gguf/parts.ts";
import type { GgufValue } from "../../../src/formats/gguf/values.ts";
import { type GgufTensorToWrite, writeGguf } from "../../../src/formats/gguf/write.ts";
import { modelMetadata } from "../../support/gguf-metadata.ts";
import { thrownBy } from "../support.ts";

const fixtures = join(import.meta.dirname, "../../fixtures");
let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "llcuda-gguf-config-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const shape = { heads: 4, kvHeads: 2, headDim: 8, width: 32 };
const floats = (name: string, data: Float32Array): GgufTensorToWrite => ({
  name,
  type: ggmlType("F32"),
  shape: [data.length],
  data,
});
const embedding: GgufTensorToWrite = {
  name: "token_embd.weight",
  type: ggmlType("F32"),
  shape: [9, 4],
  data: new Float32Array(36),
};
const output: GgufTensorToWrite = { ...embedding, name: "output.weight" };

let files = 0;
function configOf(metadata: ReadonlyMap<string, GgufValue>, tensors: readonly GgufTensorToWrite[] = []) {
  const path = join(scratch, `c${files++}.gguf`);
  writeGguf(path, metadata, [embedding, ...tensors]);
  using parts = GgufParts.open(path);
  return ggufConfig(parts);
}
const refusal = (...args: Parameters<typeof configOf>) => thrownBy(() => configOf(...args));

describe("the file that gguf-py wrote", () => {
  test("reads as the config.json that it was made from", () => {
    using parts = GgufParts.open(join(fixtures, "demo-chat.Q4_K_M.gguf"));
    const found = parseModelConfig(ggufConfig(parts), parts.path);
    const original = readModelConfig(join(fixtures, "../../models/demo"));
    const numbers = ({ source: _, raw: __, rmsNormEps: ___, eosTokenIds: ____, ...rest }: typeof original) => rest;
    expect(numbers(found)).toEqual(numbers(original));
    expect(found.rmsNormEps).toBe(Math.fround(original.rmsNormEps));
    expect(found.eosTokenIds).toEqual([1023]);
  });
});

describe("architectures", () => {
  test.each<[string, Readonly<Record<string, number>>, object]>([
    ["llama", {}, { architectures: ["LlamaForCausalLM"], model_type: "llama", sliding_window: null }],
    ["llama", { "attention.sliding_window": 64 }, { model_type: "mistral", sliding_window: 64 }],
    ["qwen2", {}, { architectures: ["Qwen2ForCausalLM"], hidden_act: "silu", torch_dtype: "float16" }],
    ["qwen3", {}, { architectures: ["Qwen3ForCausalLM"], model_type: "qwen3" }],
    ["gemma", {}, { model_type: "gemma", hidden_act: "gelu_pytorch_tanh", torch_dtype: "bfloat16" }],
    ["phi3", { "rope.dimension_count": 6 }, { model_type: "phi3", partial_rotary_factor: 0.75 }],
  ])("%s %o", (name, more, expected) => {
    expect(configOf(modelMetadata(name, shape, more))).toMatchObject({
      vocab_size: 9,
      hidden_size: 32,
      intermediate_size: 6,
      num_hidden_layers: 2,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      head_dim: 8,
      max_position_embeddings: 512,
      tie_word_embeddings: true,
      ...expected,
    });
  });

  test("a head of its own unties, and biases of all four projections are attention_bias", () => {
    expect(configOf(modelMetadata("llama", shape), [output])).toMatchObject({ tie_word_embeddings: false });
    const biases = ["attn_q", "attn_output"].map((name) => floats(`blk.0.${name}.bias`, new Float32Array(32)));
    expect(configOf(modelMetadata("llama", shape), biases)).toMatchObject({ attention_bias: true });
  });

  test("mixtures of experts", () => {
    const experts = { ...shape, experts: 8 };
    const mixtral = { model_type: "mixtral", num_local_experts: 8, num_experts_per_tok: 2 };
    expect(configOf(modelMetadata("llama", experts))).toMatchObject(mixtral);
    expect(configOf(modelMetadata("qwen3moe", experts))).toMatchObject({
      ...{ model_type: "qwen3_moe", num_experts: 8, num_experts_per_tok: 2, norm_topk_prob: true },
      moe_intermediate_size: 3,
    });
  });

  test("Gemma 2 and 3 say which layers slide and how scores are scaled", () => {
    const window = { "attention.sliding_window": 16, attn_logit_softcapping: 50, final_logit_softcapping: 30 };
    expect(configOf(modelMetadata("gemma2", { ...shape, layers: 3 }, window))).toMatchObject({
      ...{ sliding_window: 16, query_pre_attn_scalar: 8, attn_logit_softcapping: 50, final_logit_softcapping: 30 },
      layer_types: ["sliding_attention", "full_attention", "sliding_attention"],
    });
    const gemma3 = modelMetadata(
      "gemma3",
      { ...shape, layers: 7 },
      { "attention.sliding_window": 16, "rope.freq_base": 1e6 },
    );
    const config = configOf(gemma3);
    expect(config).toMatchObject({ rope_theta: 1e6, rope_local_base_freq: 1e4, attn_logit_softcapping: null });
    expect(config.layer_types).toEqual([...Array(5).fill("sliding_attention"), "full_attention", "sliding_attention"]);
    // The 27B models scale by the width of all heads.
    expect(configOf(modelMetadata("gemma2", { ...shape, layers: 46, width: 48 }, window))).toMatchObject({
      query_pre_attn_scalar: 12,
    });
    // Whole again after a float32: transformers refuses 95.99999301278109.
    for (const scalar of [16, 96, 144, 168, 256]) {
      expect(configOf(modelMetadata("gemma3", shape, { "attention.scale": 1 / Math.sqrt(scalar) }))).toMatchObject({
        query_pre_attn_scalar: scalar,
      });
    }
    expect(configOf(modelMetadata("gemma3", shape, { "attention.scale": 0.3 })).query_pre_attn_scalar).toBeCloseTo(
      1 / 0.09,
      4,
    );
    const flags = new Map(gemma3).set("gemma3.attention.sliding_window_pattern", {
      type: "array",
      of: "bool",
      value: Uint8Array.of(1, 0, 1, 0, 1, 0, 1),
    });
    expect((configOf(flags).layer_types as string[]).filter((kind) => kind === "full_attention")).toHaveLength(3);
  });

  test.each([
    [0, "float32"],
    [1, "float16"],
    [15, "float16"],
    [32, "bfloat16"],
  ])("file type %i computes in %s", (fileType, dtype) => {
    const metadata = modelMetadata("qwen3", shape).set("general.file_type", { type: "uint32", value: fileType });
    expect(configOf(metadata).torch_dtype).toBe(dtype);
  });
});

describe("rotary scaling", () => {
  const wide = { ...shape, headDim: 64, width: 128, heads: 2 };
  const divisors = (factor: number) =>
    Float32Array.from({ length: 32 }, (_, i) => {
      const turns = 8192 / (2 * Math.PI * 500_000 ** (i / 32));
      if (turns < 1) return factor;
      if (turns > 4) return 1;
      const smooth = (turns - 1) / 3;
      return 1 / ((1 - smooth) / factor + smooth);
    });
  const theta = { "rope.freq_base": 500_000 };

  test.each([8, 32])("rope_freqs of Llama 3's factor %i is read as llama3", (factor) => {
    const config = configOf(modelMetadata("llama", wide, theta), [floats("rope_freqs.weight", divisors(factor))]);
    expect(config.rope_scaling).toEqual({
      ...{ rope_type: "llama3", factor, low_freq_factor: 1, high_freq_factor: 4 },
      original_max_position_embeddings: 8192,
    });
    expect(parseModelConfig(config, "test").rope).toMatchObject({ type: "llama3", theta: 500_000, factor });
  });

  test("other divisors are kept as they are", () => {
    const own = Float32Array.from({ length: 32 }, (_, i) => 1 + i / 7);
    const config = configOf(modelMetadata("llama", wide, theta), [floats("rope_freqs.weight", own)]);
    const { rope } = parseModelConfig(config, "test");
    expect(rope).toMatchObject({ type: "longrope", attentionFactor: 1, shortFactor: [...own], longFactor: [...own] });
    const none = configOf(modelMetadata("llama", wide), [floats("rope_freqs.weight", new Float32Array(32).fill(1))]);
    expect(parseModelConfig(none, "test").rope).toEqual({ type: "default", theta: 10_000 });
  });

  test("Phi-3's two lists of factors", () => {
    const long = new Float32Array(32).fill(4);
    const more = { "rope.scaling.original_context_length": 128, "rope.scaling.attn_factor": 1.25 };
    const config = configOf(modelMetadata("phi3", wide, more), [
      floats("rope_factors_short.weight", new Float32Array(32).fill(1)),
      floats("rope_factors_long.weight", long),
    ]);
    expect(parseModelConfig(config, "test").rope).toMatchObject({
      ...{ type: "longrope", originalMaxPositions: 128, factor: 4, attentionFactor: 1.25 },
      longFactor: [...long],
    });
  });

  test("linear and YaRN", () => {
    const linear = { "rope.scaling.type": "linear", "rope.scaling.factor": 8 };
    expect(parseModelConfig(configOf(modelMetadata("qwen3", wide, linear)), "test").rope).toMatchObject({
      ...{ type: "linear", factor: 8 },
    });
    expect(configOf(modelMetadata("llama", wide, { "rope.scale_linear": 2 })).rope_scaling).toMatchObject({
      factor: 2,
    });
    const yarn = { "rope.scaling.type": "yarn", "rope.scaling.factor": 4, "rope.scaling.original_context_length": 128 };
    expect(parseModelConfig(configOf(modelMetadata("qwen3", wide, yarn)), "test").rope).toMatchObject({
      ...{ type: "yarn", factor: 4, originalMaxPositions: 128, betaFast: 32, betaSlow: 1, attentionFactor: undefined },
    });
    const other = { "rope.scaling.type": "cubic" };
    expect(refusal(modelMetadata("qwen3", wide, other))).toBeInstanceOf(UnsupportedError);
  });
});

describe("numbers that are missing or wrong", () => {
  const base = () => modelMetadata("llama", shape);
  const without = (key: string) => {
    const metadata = base();
    metadata.delete(key);
    return metadata;
  };

  test.each([
    ["general.architecture", /general.architecture is missing/],
    ["llama.embedding_length", /llama.embedding_length is missing; expected an integer/],
    ["llama.block_count", /llama.block_count is missing/],
    ["llama.attention.head_count", /head_count is missing/],
    ["llama.attention.layer_norm_rms_epsilon", /layer_norm_rms_epsilon is missing; expected a finite number/],
  ])("no %s", (key, message) => {
    const error = refusal(without(key));
    expect(error).toBeInstanceOf(FormatError);
    expect(error!.message).toMatch(message);
  });

  test("heads that differ, or do not divide", () => {
    const heads = (...value: number[]): GgufValue => ({ type: "array", of: "int32", value: Int32Array.from(value) });
    const key = "llama.attention.head_count_kv";
    expect(configOf(base().set(key, heads(2, 2)))).toMatchObject({ num_key_value_heads: 2 });
    expect(refusal(base().set(key, heads(2, 1)))?.message).toMatch(/differs from layer to layer/);
    const odd = without("llama.attention.key_length").set("llama.embedding_length", { type: "uint32", value: 33 });
    expect(refusal(odd)?.message).toMatch(/embedding_length is 33; expected a multiple of the 4 heads/);
    const values = base().set("llama.attention.value_length", { type: "uint32", value: 16 });
    expect(refusal(values)?.message).toMatch(/8 dimensions for keys and 16 for values/);
    const none = base().set("llama.attention.head_count", { type: "uint32", value: 0 });
    expect(refusal(none)?.message).toMatch(/head_count is 0; expected a positive integer/);
  });

  test("rotary factors of another size, or that are no factors", () => {
    expect(refusal(base(), [floats("rope_freqs.weight", new Float32Array(3))])?.message).toMatch(/expected F32 \[4\]/);
    expect(refusal(base(), [floats("rope_freqs.weight", new Float32Array(4))])?.message).toMatch(/no positive number/);
  });
});
