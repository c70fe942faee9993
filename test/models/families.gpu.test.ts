import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { LanguageModel } from "../../src/engine/language-model.ts";
import { writeCheckpoint } from "../../src/formats/safetensors/write.ts";
import { geluTanh, silu } from "../reference/activation.ts";
import { type DecoderFacts, decoderLogits, type Parameters } from "../reference/decoder.ts";
import { describeGpu, normals, relativeL2 } from "../support/gpu.ts";

// What the golden checkpoints leave open, compared with float64: other patterns of windows, more biases, partial rotation,
// longrope beyond its original context, Gemma 1. Each case has the config as a checkpoint would have it, mostly in the
// older form, and beside it what that should come to.

const [layers, c, f, v, h, g, d] = [3, 64, 96, 100, 4, 2, 32];
const numbers = {
  vocab_size: v,
  hidden_size: c,
  intermediate_size: f,
  num_hidden_layers: layers,
  num_attention_heads: h,
  num_key_value_heads: g,
  head_dim: d,
  max_position_embeddings: 256,
  torch_dtype: "float32",
};
const frequencies = (theta: number, rotaryDim = d, divisor: (i: number) => number = () => 1) =>
  Array.from({ length: rotaryDim / 2 }, (_, i) => theta ** ((-2 * i) / rotaryDim) / divisor(i));
const all = Number.POSITIVE_INFINITY;

const llamaNorms = ["input_layernorm", undefined, "post_attention_layernorm", undefined] as const;
const gemmaNorms = [
  "input_layernorm",
  "post_attention_layernorm",
  "pre_feedforward_layernorm",
  "post_feedforward_layernorm",
] as const;
const llama: DecoderFacts = {
  heads: h,
  kvHeads: g,
  headDim: d,
  eps: 1e-6,
  normOffset: 0,
  embeddingScale: 1,
  activation: silu,
  attentionScale: 1 / Math.sqrt(d),
  norms: llamaNorms,
  layers: Array.from({ length: layers }, () => ({ window: all, frequencies: frequencies(10_000) })),
};
const gemma = { normOffset: 1, embeddingScale: Math.fround(8), activation: geluTanh };
const withWindows = (windows: readonly number[], theta: number) =>
  windows.map((window) => ({ window, frequencies: frequencies(theta) }));

interface Case {
  readonly config: object;
  readonly facts: DecoderFacts;
  readonly stored?: { readonly fused?: boolean; readonly biases?: readonly string[]; readonly headNorms?: boolean };
  /** Whether there is a head of its own. */
  readonly head?: boolean;
}

const attention = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"];
const longFactors = Array.from({ length: 12 }, (_, i) => 1 + i / 2);
const shortFactors = Array.from({ length: 12 }, (_, i) => 1 + i / 100);
const phi = {
  ...numbers,
  model_type: "phi3",
  rms_norm_eps: 1e-5,
  partial_rotary_factor: 0.75,
  original_max_position_embeddings: 16,
  rope_scaling: { type: "longrope", short_factor: shortFactors, long_factor: longFactors },
};
const phiFacts = (factors: readonly number[]): DecoderFacts => ({
  ...llama,
  eps: 1e-5,
  rotaryScale: Math.sqrt(1 + Math.log(16) / Math.log(16)),
  layers: llama.layers.map(() => ({ window: all, frequencies: frequencies(10_000, 24, (i) => factors[i]!) })),
});

const cases: Readonly<Record<string, Case>> = {
  "Llama with biases everywhere": {
    config: { ...numbers, model_type: "llama", attention_bias: true, mlp_bias: true },
    facts: llama,
    stored: { biases: [...attention, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"] },
    head: true,
  },
  "Llama with as many key heads as query heads, yarn, and a tied head": {
    config: {
      ...numbers,
      model_type: "llama",
      num_key_value_heads: h,
      tie_word_embeddings: true,
      rope_scaling: { type: "yarn", factor: 4, original_max_position_embeddings: 64 },
    },
    facts: {
      ...{ ...llama, kvHeads: h, rotaryScale: 0.1 * Math.log(4) + 1 },
      // The ramp: 32 rotations in 64 positions are before the first pair, one is at 32·ln(64/2π)/(2·ln 10000) = 4.03.
      layers: llama.layers.map(() => ({
        window: all,
        frequencies: frequencies(10_000, d, (i) => 1 / (1 - Math.min(1, i / 5) * 0.75)),
      })),
    },
  },
  "Qwen2 whose last layers have a window": {
    config: { ...numbers, model_type: "qwen2", use_sliding_window: true, sliding_window: 7, max_window_layers: 1 },
    facts: { ...llama, layers: withWindows([all, 7, 7], 10_000) },
    stored: { biases: attention.slice(0, 3) },
    head: true,
  },
  "Qwen3 with biases and a tied head": {
    config: { ...numbers, model_type: "qwen3", attention_bias: true, tie_word_embeddings: true, rope_theta: 1e6 },
    facts: { ...llama, layers: withWindows([all, all, all], 1e6) },
    stored: { biases: attention, headNorms: true },
  },
  "Gemma 1": {
    config: { ...numbers, model_type: "gemma", hidden_act: "gelu" },
    facts: { ...llama, ...gemma },
  },
  "Gemma 2 without softcaps, its layers named": {
    config: {
      ...numbers,
      model_type: "gemma2",
      query_pre_attn_scalar: 48,
      sliding_window: 5,
      attn_logit_softcapping: null,
      final_logit_softcapping: null,
      layer_types: ["full_attention", "full_attention", "sliding_attention"],
    },
    facts: {
      ...{ ...llama, ...gemma, norms: gemmaNorms, attentionScale: 1 / Math.sqrt(48) },
      layers: withWindows([all, all, 5], 10_000),
    },
  },
  "Gemma 3 with another pattern, in the older form": {
    config: {
      ...numbers,
      model_type: "gemma3_text",
      query_pre_attn_scalar: 32,
      sliding_window: 6,
      sliding_window_pattern: 2,
      rope_theta: 1e6,
      rope_local_base_freq: 5000,
      rope_scaling: { rope_type: "linear", factor: 4 },
    },
    facts: {
      ...{ ...llama, ...gemma, norms: gemmaNorms },
      layers: [
        { window: 6, frequencies: frequencies(5000) },
        { window: all, frequencies: frequencies(1e6, d, () => 4) },
        { window: 6, frequencies: frequencies(5000) },
      ],
    },
    stored: { headNorms: true },
  },
  "Gemma 3 whose window spans the context": {
    config: {
      ...numbers,
      model_type: "gemma3_text",
      query_pre_attn_scalar: 32,
      sliding_window: 256,
      layer_types: ["sliding_attention", "sliding_attention", "full_attention"],
    },
    facts: {
      ...{ ...llama, ...gemma, norms: gemmaNorms },
      layers: [10_000, 10_000, 1e6].map((theta) => ({ window: all, frequencies: frequencies(theta) })),
    },
    stored: { headNorms: true },
  },
  "Phi-4-mini: partial rotation, longrope beyond its original context, tied": {
    config: { ...phi, tie_word_embeddings: true },
    facts: phiFacts(longFactors),
    stored: { fused: true },
  },
  "Phi-3: a window in every layer, longrope within its original context": {
    config: { ...phi, original_max_position_embeddings: 64, max_position_embeddings: 1024, sliding_window: 9 },
    facts: {
      ...phiFacts(shortFactors),
      rotaryScale: Math.sqrt(1 + Math.log(16) / Math.log(64)),
      layers: phiFacts(shortFactors).layers.map((layer) => ({ ...layer, window: 9 })),
    },
    stored: { fused: true },
    head: true,
  },
};

/** Random parameters in the form that the case says. */
function parametersOf({ facts, stored = {}, head }: Case): Parameters {
  const parameters = new Map<string, { shape: number[]; data: Float32Array }>();
  const put = (name: string, shape: number[], deviation: number, mean = 0) => {
    const count = shape.reduce((a, b) => a * b, 1);
    const data = Float32Array.from(normals(count, parameters.size + 1), (x) => mean + deviation * x);
    parameters.set(name, { shape, data });
  };
  const norm = (name: string, size: number) => put(`${name}.weight`, [size], 0.2, 1 - facts.normOffset);
  put("model.embed_tokens.weight", [v, c], 1);
  for (let i = 0; i < layers; i++) {
    const prefix = `model.layers.${i}.`;
    const linear = (name: string, rows: number, cols: number) => {
      put(`${prefix}${name}.weight`, [rows, cols], 1 / Math.sqrt(cols));
      if (stored.biases?.includes(name)) put(`${prefix}${name}.bias`, [rows], 0.3);
    };
    for (const name of facts.norms) if (name) norm(prefix + name, c);
    for (const name of stored.headNorms ? ["q_norm", "k_norm"] : []) norm(`${prefix}self_attn.${name}`, d);
    if (stored.fused) {
      linear("self_attn.qkv_proj", (h + 2 * facts.kvHeads) * d, c);
      linear("mlp.gate_up_proj", 2 * f, c);
    } else {
      for (const [name, rows] of [
        ["q", h * d],
        ["k", facts.kvHeads * d],
        ["v", facts.kvHeads * d],
      ] as const) {
        linear(`self_attn.${name}_proj`, rows, c);
      }
      linear("mlp.gate_proj", f, c);
      linear("mlp.up_proj", f, c);
    }
    linear("self_attn.o_proj", c, h * d);
    linear("mlp.down_proj", c, f);
  }
  norm("model.norm", c);
  if (head) put("lm_head.weight", [v, c], 1 / Math.sqrt(c));
  return parameters;
}

describeGpu("families in float32", (device) => {
  test.each(Object.entries(cases))("%s: logits, and what follows greedily", async (_, given) => {
    const directory = mkdtempSync(join(tmpdir(), "llcuda-family-"));
    try {
      const parameters = parametersOf(given);
      writeFileSync(join(directory, "config.json"), JSON.stringify(given.config));
      writeCheckpoint(
        directory,
        [...parameters].map(([name, { shape, data }]) => ({ name, shape, data, dtype: "float32" })),
      );
      using model = await LanguageModel.fromPretrained(directory, { device, dtype: "float32" });
      const prompt = Array.from({ length: 21 }, (_, i) => (i * 37 + 11) % v);
      const request = {
        promptIds: prompt,
        sampling: { temperature: 0, topK: 0, topP: 1, minP: 0, seed: 0n },
        maxNewTokens: 6,
        stopIds: new Set<number>(),
      };
      const drawn: number[] = [];
      for await (const event of model.engine.run([request])) drawn.push(event.tokenId);
      const ids = [...prompt, ...drawn];
      const expected = decoderLogits(given.facts, parameters, ids);
      using tensor = await model.logits(ids);
      // Sums of a hundred terms over three layers, in float32 against float64.
      expect(
        relativeL2(
          tensor.toArray() as Float32Array,
          expected.flatMap((row) => [...row]),
        ),
      ).toBeLessThan(1e-5);
      const best = expected.slice(prompt.length - 1, -1).map((row) => row.indexOf(Math.max(...row)));
      expect(drawn).toEqual(best);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
