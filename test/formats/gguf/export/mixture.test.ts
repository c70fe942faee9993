import { describe, expect, test } from "vitest";
import { float16 } from "../../../../src/base/dtype.ts";
import { ggmlType } from "../../../../src/base/ggml.ts";
import { ggufArchitectureOf } from "../../../../src/formats/gguf/architectures.ts";
import {
  type MixtureModel,
  type MixtureName,
  mixtureBase,
  mixtureFileType,
  mixtureNames,
  mixtureType,
} from "../../../../src/formats/gguf/export/mixture.ts";
import { planGgufTensors } from "../../../../src/formats/gguf/export/tensors.ts";
import type { StoredWeight } from "../../../../src/formats/stored/stored-weights.ts";

/** The bits of a module's matrix in each layer, as a digit; one digit where all layers have the same. */
function bits(name: MixtureName, module: string, model: MixtureModel): string {
  const digits = Array.from({ length: model.layers }, (_, layer) => {
    return mixtureType(name, `blk.${layer}.${module}.weight`, false, model).name[1];
  });
  return new Set(digits).size === 1 ? digits[0]! : digits.join("");
}

const models = {
  "Llama 3 8B": { modelType: "llama", layers: 32, heads: 32, kvHeads: 8, experts: 0 },
  "Llama 3 70B": { modelType: "llama", layers: 80, heads: 64, kvHeads: 8, experts: 0 },
  "Llama 65B": { modelType: "llama", layers: 80, heads: 64, kvHeads: 64, experts: 0 },
  "Qwen1.5 72B": { modelType: "qwen2", layers: 80, heads: 64, kvHeads: 64, experts: 0 },
  "Mixtral 8x7B": { modelType: "mixtral", layers: 32, heads: 32, kvHeads: 8, experts: 8 },
  "Qwen3 30B A3B": { modelType: "qwen3_moe", layers: 48, heads: 32, kvHeads: 4, experts: 128 },
  "Gemma 2 2B": { modelType: "gemma2", layers: 26, heads: 8, kvHeads: 4, experts: 0 },
  "Phi-3 mini": { modelType: "phi3", layers: 32, heads: 32, kvHeads: 32, experts: 0 },
} as const satisfies Record<string, MixtureModel>;

/** What llama.cpp v0.5.0 chose for empty models of these sizes. */
const chosen: readonly (readonly [model: keyof typeof models, MixtureName, Readonly<Record<string, string>>])[] = [
  ["Llama 3 8B", "q2_k", { attn_q: "2", attn_k: "2", attn_v: "4", attn_output: "3", ffn_up: "2", ffn_down: "3" }],
  ["Llama 3 8B", "q3_k_s", { attn_q: "3", attn_v: "3", attn_output: "3", ffn_down: "3" }],
  [
    ...(["Llama 3 8B", "q3_k_m"] as const),
    {
      attn_v: "55444444444444444444444444444444",
      attn_output: "4",
      ffn_gate: "3",
      ffn_down: "55444444444444444444444444444444",
    },
  ],
  ["Llama 3 8B", "q3_k_l", { attn_k: "3", attn_v: "5", attn_output: "5", ffn_up: "3", ffn_down: "5" }],
  [
    ...(["Llama 3 8B", "q4_k_s"] as const),
    {
      attn_v: "55554444444444444444444444444444",
      attn_output: "4",
      ffn_down: "55554444444444444444444444444444",
    },
  ],
  [
    ...(["Llama 3 8B", "q4_k_m"] as const),
    {
      attn_q: "4",
      attn_v: "66664464464464464464464464466666",
      attn_output: "4",
      ffn_gate: "4",
      ffn_down: "66664464464464464464464464466666",
    },
  ],
  ["Llama 3 8B", "q5_k_s", { attn_q: "5", attn_v: "5", attn_output: "5", ffn_down: "5" }],
  [
    ...(["Llama 3 8B", "q5_k_m"] as const),
    { attn_v: "66665565565565565565565565566666", ffn_down: "66665565565565565565565565566666" },
  ],
  ["Llama 3 8B", "q6_k", { attn_q: "6", attn_v: "6", attn_output: "6", ffn_down: "6" }],
  [
    ...(["Llama 3 70B", "q4_k_m"] as const),
    {
      attn_v: "66666666665565565565565565565565565565565565565565565565565565565565566666666666",
      ffn_down: "66666666664464464464464464464464464464464464464464464464464464464464466666666666",
    },
  ],
  ["Llama 3 70B", "q3_k_s", { attn_v: "5", attn_output: "3" }],
  ["Llama 65B", "q2_k", { attn_v: "3", ffn_down: "3" }],
  ["Llama 65B", "q3_k_s", { attn_v: "3" }],
  ["Qwen1.5 72B", "q3_k_s", { attn_v: "5" }],
  ["Mixtral 8x7B", "q2_k", { attn_q: "2", attn_k: "8", attn_v: "8", attn_output: "5", ffn_down_exps: "3" }],
  ["Mixtral 8x7B", "q3_k_l", { attn_k: "8", attn_v: "8", attn_output: "3", ffn_up_exps: "3", ffn_down_exps: "5" }],
  [
    ...(["Mixtral 8x7B", "q4_k_m"] as const),
    { attn_v: "8", attn_output: "5", ffn_gate_exps: "4", ffn_down_exps: "66664464464464464464464464466666" },
  ],
  [
    ...(["Qwen3 30B A3B", "q4_k_m"] as const),
    { attn_k: "4", attn_output: "4", ffn_down_exps: "666666446446446446446446446446446446446446666666" },
  ],
  [...(["Qwen3 30B A3B", "q4_k_s"] as const), { ffn_down_exps: "555555444444444444444444444444444444444444444444" }],
  [
    ...(["Gemma 2 2B", "q3_k_m"] as const),
    { attn_v: "55444444444444444444444444", ffn_down: "54444444444444444444444444" },
  ],
  [
    ...(["Phi-3 mini", "q4_k_m"] as const),
    { attn_qkv: "66664464464464464464464464466666", ffn_up: "4", ffn_down: "66664464464464464464464464466666" },
  ],
  ["Phi-3 mini", "q2_k", { attn_qkv: "3", attn_output: "3" }],
];

describe("mixtures of K types", () => {
  test.each(chosen)("%s in %s: what llama.cpp chooses", (model, name, expected) => {
    const found = Object.keys(expected).map((module) => [module, bits(name, module, models[model])]);
    expect(Object.fromEntries(found)).toEqual(expected);
  });

  test("heads are Q6_K, embeddings beside one have the base; file types are llama.cpp's numbers", () => {
    for (const name of mixtureNames) {
      const model = models["Llama 3 8B"];
      expect(mixtureType(name, "output.weight", true, model).name).toBe("Q6_K");
      expect(mixtureType(name, "token_embd.weight", true, model).name).toBe("Q6_K");
      expect(mixtureType(name, "token_embd.weight", false, model)).toBe(mixtureBase(name));
    }
    const numbers = mixtureNames.map((name) => [name, mixtureFileType(name)]);
    expect(Object.fromEntries(numbers)).toEqual({
      ...{ q2_k: 10, q3_k_s: 11, q3_k_m: 12, q3_k_l: 13, q4_k_s: 14, q4_k_m: 15, q5_k_s: 16, q5_k_m: 17, q6_k: 18 },
    });
  });
});

describe("a model in a mixture", () => {
  const weight = (name: string, shape: number[]): [string, StoredWeight] => {
    const info = { name, dtype: "F16", elementType: float16, shape, file: "", byteOffset: 0, byteLength: 0 };
    return [name, { kind: "plain", name, shape, dtype: float16, info }];
  };
  const layer = (cols: number) => [
    weight("model.layers.0.self_attn.q_proj.weight", [cols, cols]),
    weight("model.layers.0.self_attn.v_proj.weight", [cols, cols]),
    weight("model.layers.0.mlp.down_proj.weight", [cols, 256]),
    weight("model.layers.0.input_layernorm.weight", [cols]),
  ];
  const typesOf = (name: MixtureName, weights: [string, StoredWeight][], pure = false) => {
    const [, architecture] = ggufArchitectureOf("llama", "test");
    const mixture = { name, model: { layers: 1, heads: 4, kvHeads: 4 } };
    const plans = planGgufTensors(weights, { architecture, type: mixtureBase(name), mixture, pure, path: "test" });
    return Object.fromEntries(plans.map(({ name, type }) => [name.replace(/^blk\.0\.|\.weight$/g, ""), type.name]));
  };

  test("has llama.cpp's types where rows are no whole number of blocks of 256, and float16 where none of 32", () => {
    const short = (cols: number) => [weight("model.embed_tokens.weight", [64, cols]), ...layer(cols)];
    expect(typesOf("q4_k_s", short(288))).toMatchObject({ attn_q: "Q5_0", attn_v: "Q5_1", ffn_down: "Q4_K" });
    expect(typesOf("q5_k_m", short(288))).toMatchObject({ token_embd: "Q8_0", attn_q: "Q5_1", attn_v: "Q8_0" });
    expect(typesOf("q3_k_s", short(288))).toMatchObject({ token_embd: "Q8_0", attn_q: "Q4_0", attn_norm: "F32" });
    expect(typesOf("q4_k_m", short(40))).toMatchObject({ token_embd: "F16", attn_q: "F16", ffn_down: "Q6_K" });
  });

  test("ties the head to the embedding only where there is none", () => {
    const untied = [weight("model.embed_tokens.weight", [64, 256]), weight("lm_head.weight", [64, 256])];
    expect(typesOf("q4_k_m", untied)).toEqual({ token_embd: "Q4_K", output: "Q6_K" });
    expect(typesOf("q4_k_m", untied.slice(0, 1))).toEqual({ token_embd: "Q6_K" });
    expect(typesOf("q4_k_m", untied, true)).toEqual({ token_embd: "Q4_K", output: "Q4_K" });
  });

  test("counts the experts that are there", () => {
    const experts = Array.from({ length: 8 }, (_, e) => {
      return weight(`model.layers.0.block_sparse_moe.experts.${e}.w2.weight`, [256, 256]);
    });
    const [, architecture] = ggufArchitectureOf("mixtral", "test");
    const attention = layer(256).slice(0, 2);
    const mixture = { name: "q4_k_m", model: { layers: 1, heads: 4, kvHeads: 4 } } as const;
    const options = { architecture, type: ggmlType("Q4_K"), mixture, pure: false, path: "test" };
    const plans = planGgufTensors([...attention, ...experts], options);
    expect(plans.map(({ name, type }) => [name, type.name])).toEqual([
      ["blk.0.attn_q.weight", "Q4_K"],
      ["blk.0.attn_v.weight", "Q8_0"],
      ["blk.0.ffn_down_exps.weight", "Q6_K"],
    ]);
  });
});
