import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { UnsupportedError } from "../../../../src/base/errors.ts";
import { ggmlType } from "../../../../src/base/ggml.ts";
import { type ModelConfig, parseModelConfig } from "../../../../src/formats/config/model-config.ts";
import { findGgufArchitecture, ggufArchitectureOf } from "../../../../src/formats/gguf/architectures.ts";
import { ggufConfig } from "../../../../src/formats/gguf/config.ts";
import { ggufModel } from "../../../../src/formats/gguf/export/metadata.ts";
import { ggufPlace } from "../../../../src/formats/gguf/export/names.ts";
import { checkpointNames } from "../../../../src/formats/gguf/names.ts";
import { GgufParts } from "../../../../src/formats/gguf/parts.ts";
import { writeGguf } from "../../../../src/formats/gguf/write.ts";
import { openCheckpoint } from "../../../../src/formats/safetensors/checkpoint.ts";

const fixtures = fileURLToPath(new URL("../../../fixtures/", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "llcuda-gguf-inverse-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function configOf(name: string, changes: object = {}): ModelConfig {
  const json = JSON.parse(readFileSync(join(fixtures, name, "config.json"), "utf8"));
  return parseModelConfig({ ...json, ...changes }, "config.json");
}

/** A config written as metadata and read again. */
function throughGguf(config: ModelConfig): { config: ModelConfig; modelType: string } {
  const { metadata, rotaryTensors } = ggufModel(config);
  const path = join(scratch, "model.gguf");
  const row = { name: "token_embd.weight", type: ggmlType("F32"), shape: [config.vocabSize, 1] };
  const rotary = [...rotaryTensors].map(([name, data]) => ({
    name,
    type: ggmlType("F32"),
    shape: [data.length],
    data,
  }));
  writeGguf(path, metadata, [{ ...row, data: new Float32Array(config.vocabSize) }, ...rotary]);
  using parts = GgufParts.open(path);
  return {
    config: parseModelConfig(ggufConfig(parts), path),
    modelType: findGgufArchitecture(parts.metadata).modelType,
  };
}

/** What decides about results; the number formats of a file round to float32. */
function essence(config: ModelConfig) {
  const { rope, slidingRope, layerTypes, slidingWindow, headDim, rotaryDim, intermediateSize, hiddenAct } = config;
  const { numAttentionHeads, numKeyValueHeads, hiddenSize, numHiddenLayers, maxPositionEmbeddings, vocabSize } = config;
  const rounded = (value: unknown): unknown =>
    JSON.parse(JSON.stringify(value ?? null, (_, v) => (typeof v === "number" ? Number(v.toPrecision(6)) : v)));
  return rounded({
    ...{ rope, slidingRope, layerTypes, slidingWindow, headDim, rotaryDim, intermediateSize, hiddenAct },
    ...{ numAttentionHeads, numKeyValueHeads, hiddenSize, numHiddenLayers, maxPositionEmbeddings, vocabSize },
    scale: config.attentionScale,
    softcaps: [config.attentionSoftcap, config.logitSoftcap],
    eps: config.rmsNormEps,
  });
}

const llama = "llama3-gqa-bf16";
/** The only numbers that files with divisors instead of a name are known by. */
const llama3 = {
  rope_type: "llama3",
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 8192,
};
const scaled = (scaling: object) => ({ rope_parameters: null, rope_theta: 10_000, rope_scaling: scaling });

/** One base for all layers of Gemma 3, which readers of GGUF do not assume. */
const localTheta = (theta: number) => ({ rope_parameters: null, rope_theta: theta, rope_local_base_freq: theta });
const factors = (first: number) => Array.from({ length: 32 }, (_, i) => first + i);
const longRope = { rope_type: "longrope", short_factor: factors(1), long_factor: factors(4) };
const longer = { max_position_embeddings: 4096, original_max_position_embeddings: 1024 };

describe("a config as GGUF metadata", () => {
  test.each([
    [llama, {}],
    ["mistral-sliding", {}],
    ["qwen2-bias", {}],
    ["qwen3-qknorm", {}],
    ["gemma2", { query_pre_attn_scalar: 128 }],
    // As in the 27B model, whose scores go by C / H.
    ["gemma2", { query_pre_attn_scalar: 32, num_hidden_layers: 46, layer_types: null }],
    ["gemma3-text", { query_pre_attn_scalar: 64 }],
    ["gemma3-text", { query_pre_attn_scalar: 64, ...localTheta(500_000) }],
    ["phi3-fused", {}],
    ["mixtral-5x3", {}],
    [llama, scaled({ ...llama3, factor: 8 })],
    [llama, scaled({ ...llama3, factor: 32 })],
    [llama, scaled({ rope_type: "linear", factor: 4 })],
    [llama, { ...scaled({ ...longRope, attention_factor: 1.2 }), ...longer }],
    [llama, scaled({ rope_type: "yarn", factor: 4, original_max_position_embeddings: 512 })],
    [llama, scaled({ rope_type: "yarn", factor: 40, original_max_position_embeddings: 512, attention_factor: 1.3 })],
  ])("%s %o comes back", (name, changes) => {
    const config = configOf(name, changes);
    const read = throughGguf(config);
    expect(essence(read.config)).toEqual(essence(config));
    expect(read.modelType).toBe(config.modelType);
  });

  test("what the format cannot say is refused", () => {
    const refused = [
      configOf(llama, scaled({ rope_type: "dynamic", factor: 2 })),
      configOf("qwen3-moe-12x4"), // one of its layers has no experts
      configOf("qwen2-bias", { use_sliding_window: true, sliding_window: 8, max_window_layers: 1, layer_types: null }),
      configOf(llama, { model_type: "gpt_neox" }),
    ];
    for (const config of refused) expect(() => ggufModel(config)).toThrow(UnsupportedError);
  });

  test.each([
    [llama, { hidden_act: "gelu_new" }, "the activation is gelu_new, and GGUF files of such models mean silu"],
    [
      "gemma3-text",
      { query_pre_attn_scalar: 96 },
      "query_pre_attn_scalar is 96, and GGUF files of such a model mean 64",
    ],
    ["gemma2", { query_pre_attn_scalar: 128, tie_word_embeddings: false }, "the head is not the embedding"],
    ["qwen3-qknorm", { attention_bias: true }, "attention's output has a bias"],
    [llama, { partial_rotary_factor: 0.5, rope_parameters: null }, "32 of the 64 dimensions of a head rotate"],
    ["qwen3-qknorm", scaled({ ...llama3, factor: 8 }), 'rope_type "llama3", for which'],
    ["qwen2-bias", { ...scaled(longRope), ...longer }, '"longrope"'],
    [llama, scaled({ rope_type: "yarn", factor: 4, beta_fast: 20 }), "beta_fast 20 and beta_slow 1"],
    [
      "qwen3-moe-12x4",
      { mlp_only_layers: [], decoder_sparse_step: 1, norm_topk_prob: false },
      "norm_topk_prob is false",
    ],
  ])("%s %o is refused, which llama.cpp would load wrongly or not at all", (name, changes, message) => {
    expect(() => ggufModel(configOf(name, changes))).toThrow(message);
  });

  test("biases of the feed-forward are read", () => {
    const path = join(scratch, "biases.gguf");
    const rows = ["token_embd.weight", "blk.0.ffn_down.bias"].map((name) => ({
      name,
      type: ggmlType("F32"),
      shape: name.endsWith("bias") ? [4] : [4, 1],
      data: new Float32Array(4),
    }));
    writeGguf(path, ggufModel(configOf(llama)).metadata, rows);
    using parts = GgufParts.open(path);
    expect(parseModelConfig(ggufConfig(parts), path).mlpBias).toBe(true);
  });
});

describe("names of tensors", () => {
  test.each([llama, "qwen2-bias", "qwen3-qknorm", "gemma2", "gemma3-text", "phi3-fused", "qwen3-moe-12x4"])(
    "of %s are those that come back",
    (name) => {
      const [, architecture] = ggufArchitectureOf(configOf(name).modelType, name);
      using source = openCheckpoint(join(fixtures, name));
      for (const info of source.tensors.values()) {
        const { name: there, expert } = ggufPlace(info.name, architecture)!;
        const shape = expert === undefined ? info.shape : [expert + 1, ...info.shape];
        const names = checkpointNames(
          { name: there, type: ggmlType("F32"), shape, file: name, byteOffset: 0, byteLength: 0 },
          architecture,
        );
        expect(names[expert ?? 0]?.name).toBe(info.name);
      }
    },
  );

  test("one without a place has none", () => {
    const [, architecture] = ggufArchitectureOf("llama", "config.json");
    for (const name of ["model.layers.0.self_attn.sinks", "model.layers.0.mlp.extra.weight", "visual.patch.weight"]) {
      expect(ggufPlace(name, architecture)).toBeUndefined();
    }
  });
});
