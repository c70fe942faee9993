import { describe, expect, test } from "vitest";
import { FormatError } from "../../../src/base/errors.ts";
import { readMixtralExperts, readQwenExperts } from "../../../src/formats/config/experts.ts";
import { parseModelConfig } from "../../../src/formats/config/model-config.ts";
import { thrownBy } from "../support.ts";

const source = (modelType: string, changes: object) => {
  const json = {
    model_type: modelType,
    vocab_size: 100,
    hidden_size: 64,
    intermediate_size: 128,
    num_hidden_layers: 6,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    ...changes,
  };
  return parseModelConfig(json, "config.json").source;
};

describe("Mixtral", () => {
  const read = (changes: object) => readMixtralExperts(source("mixtral", { num_local_experts: 8, ...changes }));
  test("2 experts as wide as the feed-forward, weights that add up to 1", () => {
    expect(read({})).toEqual({ experts: 8, chosen: 2, normalize: true, intermediateSize: 128 });
    expect(read({ num_experts_per_tok: 3 }).chosen).toBe(3);
  });
  test("every layer slides when there is a window, and by default there is none", () => {
    const layers = (changes: object) =>
      parseModelConfig(source("mixtral", { num_local_experts: 8, ...changes }).json, "config.json").slidingWindow;
    expect(layers({})).toBe(undefined);
    expect(layers({ sliding_window: 32 })).toBe(32);
  });
  test("numbers that cannot be are refused with what was found and expected", () => {
    expect(thrownBy(() => read({ num_experts_per_tok: 9 }))).toEqual(
      new FormatError(
        "config.json",
        "config.json: num_experts_per_tok is 9, but there are only 8 experts; expected a number from 1 to 8",
      ),
    );
    expect(() => read({ num_local_experts: undefined })).toThrow(
      "config.json: num_local_experts (or num_experts) is missing; expected a positive integer",
    );
    expect(() => read({ num_local_experts: 0 })).toThrow("num_local_experts is 0; expected a positive integer");
    expect(() => read({ num_experts: 16 })).toThrow("num_experts is 16; expected 8, as num_local_experts says");
    expect(() => read({ num_experts_per_tok: 1.5 })).toThrow("num_experts_per_tok is 1.5; expected a positive integer");
  });
});

describe("Qwen3-MoE", () => {
  const read = (layer: number, changes: object = {}) =>
    readQwenExperts(source("qwen3_moe", { num_experts: 16, moe_intermediate_size: 32, ...changes }), layer);
  test("experts of their own width; transformers 4 and 5 name their number differently", () => {
    const expected = { experts: 16, chosen: 8, normalize: false, intermediateSize: 32 };
    expect(read(0)).toEqual(expected);
    expect(read(0, { num_experts: undefined, num_local_experts: 16 })).toEqual(expected);
    expect(read(0, { norm_topk_prob: true, num_experts_per_tok: 4 })).toMatchObject({ normalize: true, chosen: 4 });
  });
  test("layers that keep the feed-forward", () => {
    const mixtures = (changes: object) => [0, 1, 2, 3, 4, 5].filter((layer) => read(layer, changes) !== undefined);
    expect(mixtures({})).toEqual([0, 1, 2, 3, 4, 5]);
    expect(mixtures({ mlp_only_layers: [0, 4] })).toEqual([1, 2, 3, 5]);
    expect(mixtures({ decoder_sparse_step: 2 })).toEqual([1, 3, 5]);
    expect(mixtures({ decoder_sparse_step: 2, mlp_only_layers: [5] })).toEqual([1, 3]);
    expect(() => read(0, { mlp_only_layers: ["1"] })).toThrow("expected a list of layer numbers");
  });
});
