import { afterAll, describe, expect, test } from "vitest";
import { FormatError, UnsupportedError } from "../../src/base/errors.ts";
import { openDevice, registerDevices } from "../../src/driver/open.ts";
import { LanguageModel } from "../../src/engine/language-model.ts";
import { verifyModel } from "../../src/engine/verify.ts";
import { SimProvider } from "../../src/sim/provider.ts";
import { type Values, Variant } from "./variant.ts";

registerDevices(new SimProvider());
const device = openDevice("sim:sm_80");
const load = (variant: Variant, options: object = {}) =>
  LanguageModel.fromPretrained(variant.directory, { device, dtype: "float32", ...options });

/** What the process warned of while `action` ran. */
async function warningsOf(action: () => Promise<void>): Promise<string[]> {
  const warnings: string[] = [];
  const listen = (warning: Error) => warnings.push(warning.message);
  process.on("warning", listen);
  await action();
  await new Promise(setImmediate); // warnings are emitted with the next tick
  process.off("warning", listen);
  return warnings;
}

describe("checkpoints of several modalities", () => {
  const multimodal = (text: Record<string, unknown>) => ({
    architectures: ["Gemma3ForConditionalGeneration"],
    model_type: "gemma3",
    dtype: text.dtype,
    text_config: text,
    vision_config: { model_type: "siglip_vision_model", hidden_size: 8 },
  });
  const vision = (name: string): Values => ({ name, shape: [2, 2], data: new Float32Array(4) });

  test.each([
    ["since transformers 4.52", "model.language_model.", "model.vision_tower.", "model.multi_modal_projector."],
    ["before", "language_model.model.", "vision_tower.", "multi_modal_projector."],
  ])("in the layout %s: the language part runs, and what is left out is named", async (_, text, tower, projector) => {
    using variant = new Variant("gemma3-text", multimodal, (tensors) => [
      ...tensors.map((t) => ({ ...t, name: t.name.replace("model.", text) })),
      vision(`${tower}vision_model.embeddings.patch_embedding.weight`),
      vision(`${tower}vision_model.post_layernorm.weight`),
      vision(`${projector}mm_input_projection_weight`),
    ]);
    const warnings = await warningsOf(async () => {
      using model = await load(variant);
      const result = await verifyModel(model);
      expect({ ...result, passed: true }).toEqual(result);
    });
    expect(warnings).toEqual([
      `${variant.directory}: only the language part is loaded; left out: 3 tensors of multi_modal_projector, vision_tower`,
    ]);
  });

  const mrope = { rope_theta: 1e6, rope_scaling: { type: "mrope", mrope_section: [8, 12, 12] } };
  const qwen = ({ rope_parameters: _, ...fields }: Record<string, unknown>) => ({ ...fields, ...mrope });
  test.each<[string, string, string, (text: Record<string, unknown>) => object]>([
    [
      "model.",
      "visual.",
      "the decoder's fields beside the vision config",
      (text) => ({ ...qwen(text), model_type: "qwen2_5_vl", vision_config: { depth: 32 } }),
    ],
    [
      "model.language_model.",
      "model.visual.",
      "a text config",
      (text) => ({
        model_type: "qwen2_5_vl",
        dtype: text.dtype,
        text_config: { ...qwen(text), model_type: "qwen2_5_vl_text" },
        vision_config: { depth: 32 },
      }),
    ],
  ])("Qwen2.5-VL with its decoder at %s, its eyes at %s, and %s", async (decoder, eyes, _, config) => {
    const architectures = ["Qwen2_5_VLForConditionalGeneration"];
    using variant = new Variant(
      "qwen2-bias",
      (text) => ({ ...config(text), architectures }),
      (tensors) => [
        ...tensors.map((t) => ({ ...t, name: t.name.replace("model.", decoder) })),
        vision(`${eyes}blocks.0.attn.qkv.weight`),
      ],
    );
    const warnings = await warningsOf(async () => {
      using model = await load(variant, { rotaryDtype: "bfloat16" });
      const result = await verifyModel(model);
      expect({ ...result, passed: true }).toEqual(result);
    });
    expect(warnings).toEqual([`${variant.directory}: only the language part is loaded; left out: 1 tensors of visual`]);
  });

  test("one whose language part is not supported is refused by its name", async () => {
    using variant = new Variant("gemma3-text", (text) => multimodal({ ...text, model_type: "mllama_text_model" }));
    await expect(load(variant)).rejects.toThrow(
      /config\.json: text_config: its language part, model_type "mllama_text_model", is not supported; supported are llama, /,
    );
  });
});

test("Gemma 3 in float16 warns, in bfloat16 it does not", async () => {
  using variant = new Variant("gemma3-text", {});
  const loading = (dtype: string) => warningsOf(async () => (await load(variant, { dtype })).dispose());
  expect(await loading("bfloat16")).toEqual([]);
  const [warning, ...others] = await loading("float16");
  expect(others).toEqual([]);
  expect(warning).toMatch(/gemma3_text models in real sizes pass 65504, the largest number of float16/);
});

describe("what cannot be loaded is refused in one sentence, and nothing is kept", () => {
  const live = () => device.memory.statistics().liveBuffers;
  const before = live();
  afterAll(() => expect(live()).toBe(before));

  async function refusal(variant: Variant): Promise<Error> {
    using _ = variant;
    const error = await load(variant).then(
      (model) => {
        model.dispose();
        throw new Error("it was loaded");
      },
      (reason: Error) => reason,
    );
    expect(error.message).not.toContain("\n");
    return error;
  }

  test.each<[string, string, object, new (...args: never[]) => Error, RegExp]>([
    [
      "a width that the tensors do not have",
      "qwen2-bias",
      { intermediate_size: 200 },
      FormatError,
      /tensor "model\.layers\.0\.mlp\.gate_proj\.weight" is \[192, 128\], but the config calls for \[200, 128\]; config\.json and the weights do not belong together/,
    ],
    [
      "heads that the fused tensor does not have",
      "phi3-fused",
      { num_key_value_heads: 2 },
      FormatError,
      /tensor "model\.layers\.0\.self_attn\.qkv_proj\.weight" is \[256, 64\], but the config calls for \[384, 64\]/,
    ],
    [
      "more layers than there are",
      "mistral-sliding",
      { num_hidden_layers: 3 },
      FormatError,
      /has no tensor "model\.layers\.2\.input_layernorm\.weight" \[64\] that its config calls for/,
    ],
    [
      "fewer layers than there are",
      "mistral-sliding",
      { num_hidden_layers: 1 },
      FormatError,
      /holds tensors "model\.layers\.1\.[a-z_.]+", "[^"]+", "[^"]+" and 6 more that its config has no place for/,
    ],
    [
      "biases that the config does not have",
      "qwen2-bias",
      { architectures: ["LlamaForCausalLM"], model_type: "llama" },
      FormatError,
      /holds tensors "model\.layers\.0\.self_attn\.[kqv]_proj\.bias", .* and 3 more that its config has no place for/,
    ],
    [
      "biases that the tensors do not have",
      "qwen3-qknorm",
      { attention_bias: true },
      FormatError,
      /has no tensor "model\.layers\.0\.self_attn\.q_proj\.bias" \[256\] that its config calls for/,
    ],
    [
      "norms of heads that the tensors do not have",
      "qwen2-bias",
      { architectures: ["Qwen3ForCausalLM"], model_type: "qwen3" },
      FormatError,
      /has no tensor "model\.layers\.0\.self_attn\.q_norm\.weight" \[64\] that its config calls for/,
    ],
    [
      "an activation that is not known",
      "mistral-sliding",
      { hidden_act: "relu2" },
      UnsupportedError,
      /config\.json: the activation "relu2" \(hidden_act\) is not supported; supported are silu, swish, gelu_pytorch_tanh, gelu_new$/,
    ],
    [
      "heads of a size that attention has no kernel for",
      "qwen2-bias",
      { head_dim: 18 },
      UnsupportedError,
      /config\.json: head_dim is 18; attention takes multiples of 8 up to 256$/,
    ],
    [
      "heads that are too wide",
      "qwen2-bias",
      { head_dim: 264 },
      UnsupportedError,
      /config\.json: head_dim is 264; attention takes multiples of 8 up to 256$/,
    ],
    [
      "a rotary embedding that is not known",
      "qwen2-bias",
      { rope_parameters: { rope_type: "spiral", rope_theta: 1e4 } },
      UnsupportedError,
      /config\.json: rope_parameters\.rope_type "spiral" is not supported; known are default, linear, /,
    ],
    [
      "an architecture that is not known",
      "qwen2-bias",
      { architectures: ["Qwen9ForCausalLM"], model_type: "qwen9" },
      UnsupportedError,
      /config\.json: architecture "Qwen9ForCausalLM" is not supported; supported are LlamaForCausalLM, /,
    ],
    [
      "no architecture, and a type that is not known",
      "qwen2-bias",
      { architectures: undefined, model_type: "qwen9" },
      UnsupportedError,
      /config\.json: model_type "qwen9" is not supported; supported are llama, /,
    ],
    [
      "an architecture and a type that disagree",
      "gemma2",
      { model_type: "gemma" },
      FormatError,
      /config\.json: architectures names "Gemma2ForCausalLM" and model_type is "gemma"; expected model_type "gemma2"$/,
    ],
    [
      "an architecture whose numbers cannot be read without a type",
      "gemma2",
      { model_type: undefined },
      FormatError,
      /architectures names "Gemma2ForCausalLM" and model_type is missing; expected model_type "gemma2"$/,
    ],
  ])("%s", async (_, fixture, changes, kind, message) => {
    const error = await refusal(new Variant(fixture, changes as Record<string, unknown>));
    expect(error).toBeInstanceOf(kind);
    expect(error.message).toMatch(message);
  });

  test("a tensor that is missing among those of a stacked product", async () => {
    const error = await refusal(
      new Variant("gemma2", {}, (tensors) => tensors.filter((t) => !t.name.endsWith("k_proj.weight"))),
    );
    expect(error.message).toMatch(
      /has no tensor "model\.layers\.0\.self_attn\.k_proj\.weight" \[128, 64\] that its config/,
    );
  });

  test("what old versions of transformers saved beside the parameters is no reason", async () => {
    const frequencies = {
      name: "model.layers.0.self_attn.rotary_emb.inv_freq",
      shape: [32],
      data: new Float32Array(32),
    };
    using variant = new Variant("mistral-sliding", {}, (tensors) => [...tensors, frequencies]);
    (await load(variant)).dispose();
  });

  test("nor is a head beside a tied embedding, or no architectures beside a known type", async () => {
    const head = { name: "lm_head.weight", shape: [320, 128], data: new Float32Array(320 * 128) };
    using variant = new Variant("qwen2-bias", { architectures: undefined }, (tensors) => [...tensors, head]);
    (await load(variant)).dispose();
  });
});
