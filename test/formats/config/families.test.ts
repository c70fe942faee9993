import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { FormatError, UnsupportedError } from "../../../src/base/errors.ts";
import { familyOf } from "../../../src/formats/config/families.ts";
import { type ModelConfig, parseModelConfig } from "../../../src/formats/config/model-config.ts";
import { thrownBy } from "../support.ts";

const fixtures = join(import.meta.dirname, "../../fixtures");
const parse = (json: object) => parseModelConfig(json as Record<string, unknown>, "config.json");

/** A small config of a family that is silent on everything a family may assume. */
const small = (modelType: string, changes: object = {}) => ({
  model_type: modelType,
  vocab_size: 100,
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 6,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  ...changes,
});
const read = (modelType: string, changes: object = {}) => parse(small(modelType, changes));
/** `s` for each layer that slides, `f` for the others. */
const layers = ({ layerTypes }: ModelConfig) => layerTypes.map((type) => type[0]).join("");

describe("what a family assumes", () => {
  test("Llama has no window, whatever its config says", () => {
    const config = read("llama", { sliding_window: 32, layer_types: new Array(6).fill("sliding_attention") });
    expect([config.slidingWindow, layers(config)]).toEqual([undefined, "ffffff"]);
  });

  test("Mistral and Phi-3: every layer slides, unless the window is null", () => {
    expect([read("mistral").slidingWindow, layers(read("mistral"))]).toEqual([4096, "ssssss"]);
    expect(read("mistral", { sliding_window: null }).slidingWindow).toBe(undefined);
    expect(layers(read("mistral", { sliding_window: null }))).toBe("ffffff");
    expect(read("phi3").slidingWindow).toBe(undefined);
    expect(layers(read("phi3", { sliding_window: 2047 }))).toBe("ssssss");
    // A window that no sequence outgrows is none.
    expect(read("phi3", { sliding_window: 262_144, max_position_embeddings: 131_072 }).slidingWindow).toBe(undefined);
    expect([read("phi3").rmsNormEps, read("phi3").maxPositionEmbeddings]).toEqual([1e-5, 4096]);
  });

  test("Qwen: a window only when use_sliding_window says so, and from max_window_layers on", () => {
    for (const family of ["qwen2", "qwen3"]) {
      expect(read(family, { sliding_window: 32 }).slidingWindow).toBe(undefined);
      const on = { use_sliding_window: true, sliding_window: 32, max_window_layers: 4 };
      expect([read(family, on).slidingWindow, layers(read(family, on))]).toEqual([32, "ffffss"]);
      // No layer is left to slide.
      expect(read(family, { ...on, max_window_layers: 28 }).slidingWindow).toBe(undefined);
    }
    const qwen2 = read("qwen2", { attention_bias: false });
    expect([qwen2.qkvBias, qwen2.outputBias, qwen2.qkNorm]).toEqual([true, false, false]);
    const qwen3 = read("qwen3");
    expect([qwen3.qkvBias, qwen3.outputBias, qwen3.qkNorm, qwen3.headDim]).toEqual([false, false, true, 128]);
    expect(read("qwen3", { head_dim: null }).headDim).toBe(16);
    const biased = read("qwen3", { attention_bias: true });
    expect([biased.qkvBias, biased.outputBias]).toEqual([true, true]);
  });

  test("Gemma: norms of 1 + weight, scaled embedding, tied head, tanh form of gelu", () => {
    const config = read("gemma", { hidden_act: "gelu" });
    expect([config.normOffset, config.embeddingScale, config.tieWordEmbeddings]).toEqual([1, 8, true]);
    expect([config.headDim, config.hiddenAct]).toEqual([256, "gelu_pytorch_tanh"]);
    expect([config.attentionSoftcap, config.logitSoftcap, config.slidingWindow]).toEqual(new Array(3).fill(undefined));
    expect(read("gemma", { hidden_act: "gelu", hidden_activation: "silu" }).hiddenAct).toBe("silu");
  });

  test("Gemma 2: softcaps, every second layer slides, scores by query_pre_attn_scalar", () => {
    const config = read("gemma2", { query_pre_attn_scalar: 144 });
    expect([config.attentionSoftcap, config.logitSoftcap, config.slidingWindow]).toEqual([50, 30, 4096]);
    expect([config.attentionScale, layers(config), config.qkNorm]).toEqual([1 / 12, "sfsfsf", false]);
    expect(config.slidingRope).toBe(config.rope);
    const off = read("gemma2", { attn_logit_softcapping: null, final_logit_softcapping: null });
    expect([off.attentionSoftcap, off.logitSoftcap]).toEqual([undefined, undefined]);
  });

  test("Gemma 3: normed queries and keys, five layers of six slide, a base for each kind", () => {
    const config = read("gemma3_text", { num_hidden_layers: 8 });
    expect([config.qkNorm, config.attentionSoftcap, config.logitSoftcap]).toEqual([true, undefined, undefined]);
    expect([layers(config), config.attentionScale, config.overflowsFloat16]).toEqual(["sssssfss", 1 / 16, true]);
    expect(config.rope).toEqual({ type: "default", theta: 1e6 });
    expect(config.slidingRope).toEqual({ type: "default", theta: 1e4 });
    // A window that spans the context is none, but its layers keep their base.
    const wide = read("gemma3_text", { sliding_window: 512, max_position_embeddings: 512 });
    expect([layers(wide), wide.slidingWindow]).toEqual(["sssssf", undefined]);
    expect(layers(read("gemma3_text", { sliding_window_pattern: 2 }))).toBe("sfsfsf");
    expect(layers(read("gemma3_text", { _sliding_window_pattern: 3 }))).toBe("ssfssf");
  });

  test("a type that is not in the table, or has the name of a method, reads as Llama", () => {
    expect(familyOf("toString")).toEqual({});
    expect(familyOf(undefined)).toEqual({});
  });
});

describe("both forms of a config say the same", () => {
  /** What a config comes to, without the fields that hold the JSON itself. */
  const meaning = (json: object) => {
    const { source: _, raw: __, ...rest } = parse(json);
    return rest;
  };

  test.each<[string, object, object]>([
    [
      "Gemma 3",
      {
        torch_dtype: "bfloat16",
        rope_theta: 1e6,
        rope_local_base_freq: 1e4,
        rope_scaling: { factor: 8, rope_type: "linear" },
        sliding_window: 32,
        sliding_window_pattern: 3,
      },
      {
        dtype: "bfloat16",
        rope_parameters: {
          full_attention: { factor: 8, rope_theta: 1e6, rope_type: "linear" },
          sliding_attention: { rope_theta: 1e4, rope_type: "default" },
        },
        sliding_window: 32,
        layer_types: ["sliding", "sliding", "full", "sliding", "sliding", "full"].map((kind) => `${kind}_attention`),
      },
    ],
    [
      "Gemma 2",
      { torch_dtype: "bfloat16", rope_theta: 10_000, hidden_act: "gelu_pytorch_tanh", sliding_window: 32 },
      {
        dtype: "bfloat16",
        rope_parameters: { rope_theta: 10_000, rope_type: "default" },
        hidden_activation: "gelu_pytorch_tanh",
        sliding_window: 32,
        layer_types: new Array(6).fill("sliding_attention").map((type, i) => (i % 2 ? "full_attention" : type)),
      },
    ],
    [
      "Phi-3",
      {
        torch_dtype: "float16",
        original_max_position_embeddings: 4096,
        max_position_embeddings: 131_072,
        partial_rotary_factor: 0.5,
        rope_theta: 10_000,
        rope_scaling: { type: "su", short_factor: [1, 1, 1, 1], long_factor: [1, 2, 3, 4] },
      },
      {
        dtype: "float16",
        max_position_embeddings: 131_072,
        rope_parameters: {
          rope_type: "longrope",
          rope_theta: 10_000,
          partial_rotary_factor: 0.5,
          short_factor: [1, 1, 1, 1],
          long_factor: [1, 2, 3, 4],
          original_max_position_embeddings: 4096,
        },
      },
    ],
    [
      "Qwen3",
      {
        torch_dtype: "bfloat16",
        rope_theta: 1e6,
        rope_scaling: null,
        use_sliding_window: true,
        sliding_window: 16,
        max_window_layers: 5,
      },
      {
        dtype: "bfloat16",
        rope_parameters: { rope_theta: 1e6, rope_type: "default" },
        use_sliding_window: true,
        sliding_window: 16,
        layer_types: [...new Array(5).fill("full_attention"), "sliding_attention"],
      },
    ],
  ])("%s", (name, older, newer) => {
    const type = { "Gemma 3": "gemma3_text", "Gemma 2": "gemma2", "Phi-3": "phi3", Qwen3: "qwen3" }[name]!;
    expect(meaning(small(type, older))).toEqual(meaning(small(type, newer)));
  });

  test.each(readdirSync(fixtures).filter((name) => existsSync(join(fixtures, name, "config.json"))))(
    "%s, written as transformers 4 would",
    (name) => {
      const config = JSON.parse(readFileSync(join(fixtures, name, "config.json"), "utf8"));
      expect(meaning(inOlderForm(config))).toEqual(meaning(config));
    },
  );

  test("the first Phi-3 checkpoints call longrope yarn", () => {
    const factors = { short_factor: new Array(8).fill(1), long_factor: new Array(8).fill(2) };
    expect(read("phi3", { rope_scaling: { type: "yarn", ...factors } }).rope.type).toBe("longrope");
  });
});

/** A config of transformers 5 with the fields that version 4 had for the same. */
function inOlderForm(config: Record<string, unknown>): object {
  const { dtype, rope_parameters, layer_types: _, ...others } = config;
  const rope = rope_parameters as Record<string, Record<string, unknown>>;
  const { rope_theta, partial_rotary_factor, ...scaling } = rope.full_attention ?? rope;
  return {
    ...others,
    torch_dtype: dtype,
    rope_theta,
    ...(partial_rotary_factor === undefined ? {} : { partial_rotary_factor }),
    ...(rope.sliding_attention ? { rope_local_base_freq: rope.sliding_attention.rope_theta } : {}),
    rope_scaling: scaling.rope_type === "default" ? null : scaling,
  };
}

describe("checkpoints of several modalities", () => {
  // As google/gemma-3-4b-it has it: the text config names little and leaves the rest to the family.
  const gemma3 = {
    architectures: ["Gemma3ForConditionalGeneration"],
    model_type: "gemma3",
    eos_token_id: [1, 106],
    torch_dtype: "bfloat16",
    mm_tokens_per_image: 256,
    text_config: {
      hidden_size: 2560,
      intermediate_size: 10_240,
      model_type: "gemma3_text",
      num_hidden_layers: 34,
      rope_scaling: { factor: 8, rope_type: "linear" },
      sliding_window: 1024,
    },
    vision_config: { hidden_size: 1152, model_type: "siglip_vision_model" },
  };

  test("the language part is read, with what stands outside of it", () => {
    const config = parse(gemma3);
    expect([config.isLanguagePart, config.modelType]).toEqual([true, "gemma3_text"]);
    expect([config.hiddenSize, config.vocabSize, config.headDim]).toEqual([2560, 262_208, 256]);
    expect([config.numAttentionHeads, config.numKeyValueHeads, config.numHiddenLayers]).toEqual([8, 4, 34]);
    expect([config.slidingWindow, config.tieWordEmbeddings, config.dtype?.name]).toEqual([1024, true, "bfloat16"]);
    expect(config.rope).toEqual({ type: "linear", theta: 1e6, factor: 8 });
    expect(config.slidingRope).toEqual({ type: "default", theta: 1e4 });
    expect(config.eosTokenIds).toEqual([1, 106]);
  });

  test("errors name the place", () => {
    const error = thrownBy(() => parse({ ...gemma3, text_config: { ...gemma3.text_config, hidden_size: "wide" } }));
    expect(error?.message).toBe('config.json: text_config.hidden_size is "wide"; expected a positive integer');
  });
});

describe("contradictions are refused in one sentence", () => {
  test.each<[string, object, new (...args: never[]) => Error, RegExp]>([
    [
      "more types than layers",
      { layer_types: new Array(7).fill("full_attention") },
      FormatError,
      /^config\.json: layer_types names 7 layers; expected as many as num_hidden_layers, 6$/,
    ],
    [
      "a type that is not known",
      { layer_types: new Array(6).fill("linear_attention") },
      UnsupportedError,
      /^config\.json: layer_types names "linear_attention"; supported are full_attention and sliding_attention$/,
    ],
    [
      "layers that slide without a window",
      { layer_types: new Array(6).fill("sliding_attention"), sliding_window: null },
      FormatError,
      /layer_types has layers of type "sliding_attention", but sliding_window or use_sliding_window switches them off/,
    ],
    ["a window that is text", { sliding_window: "4096" }, FormatError, /sliding_window is "4096"; expected an integer/],
    ["a cap of zero", { attn_logit_softcapping: 0 }, FormatError, /attn_logit_softcapping is 0; expected a positive/],
    ["a scalar of zero", { query_pre_attn_scalar: 0 }, FormatError, /query_pre_attn_scalar is 0; expected a positive/],
  ])("%s", (_, changes, kind, message) => {
    const error = thrownBy(() => read("gemma2", changes));
    expect(error).toBeInstanceOf(kind);
    expect(error?.message).toMatch(message);
  });
});
