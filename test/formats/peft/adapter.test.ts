import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FileError, FormatError, UnsupportedError } from "../../../src/base/errors.ts";
import { LoraAdapter } from "../../../src/formats/peft/adapter.ts";
import { parseAdapterConfig } from "../../../src/formats/peft/adapter-config.ts";
import { findBaseModel } from "../../../src/formats/peft/base-model.ts";
import { modulePattern } from "../../../src/formats/peft/module-pattern.ts";
import { type TensorToWrite, writeSafetensors } from "../../../src/formats/safetensors/write.ts";
import { thrownBy } from "../support.ts";

let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "llcuda-peft-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const base = { peft_type: "LORA", r: 4, lora_alpha: 8, target_modules: ["q_proj"], base_model_name_or_path: "../base" };
const q = "base_model.model.model.layers.0.self_attn.q_proj";

const f32 = (name: string, shape: readonly number[]): TensorToWrite => ({
  name,
  dtype: "float32",
  shape,
  data: new Float32Array(shape.reduce((a, b) => a * b, 1)),
});
const tokenRows = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta";
/** A [r, 6] and B [5, r] of a module. */
const pair = (module: string, rank = 4) => [
  f32(`${module}.lora_A.weight`, [rank, 6]),
  f32(`${module}.lora_B.weight`, [5, rank]),
];

let adapters = 0;
function adapter(config: object, tensors?: readonly TensorToWrite[]): string {
  const directory = join(scratch, `a${adapters++}`);
  mkdirSync(directory);
  writeFileSync(join(directory, "adapter_config.json"), JSON.stringify(config));
  if (tensors) writeSafetensors(join(directory, "adapter_model.safetensors"), tensors);
  return directory;
}
const refusal = (config: object, tensors?: readonly TensorToWrite[]) =>
  thrownBy(() => LoraAdapter.open(adapter(config, tensors)));

describe("an adapter", () => {
  test("lists its modules by the base's names, with rank and scale", () => {
    using lora = LoraAdapter.open(adapter(base, pair(q)));
    const module = lora.modules.get("model.layers.0.self_attn.q_proj")!;
    expect(module).toMatchObject({ kind: "linear", rank: 4, scale: 2, magnitude: undefined });
    expect([module.a.shape, module.b.shape]).toEqual([
      [4, 6],
      [5, 4],
    ]);
    expect(lora.source.read(module.a.name)).toHaveLength(96);
    expect(lora.replaced.size).toBe(0);
  });

  test("rank-stabilised scaling, and ranks and alphas of their own", () => {
    const v = q.replace("q_proj", "v_proj");
    const config = {
      ...{ ...base, use_rslora: true, rank_pattern: { "self_attn.v_proj": 9 }, alpha_pattern: { "[vk]_proj": 6 } },
    };
    using lora = LoraAdapter.open(adapter(config, [...pair(q), ...pair(v, 9)]));
    const [first, second] = [...lora.modules.values()].sort((a, b) => a.rank - b.rank);
    expect(first).toMatchObject({ rank: 4, scale: 8 / 2 });
    expect(second).toMatchObject({ rank: 9, scale: 6 / 3 });
  });

  test("embeddings, and weights that were trained whole, however PEFT wrapped their names", () => {
    const tensors = [
      f32("base_model.model.model.embed_tokens.lora_embedding_A", [4, 100]),
      f32("base_model.model.model.embed_tokens.lora_embedding_B", [6, 4]),
      f32("base_model.model.lm_head.modules_to_save.weight", [100, 6]),
      f32("base_model.model.model.norm.modules_to_save.default.weight", [6]),
      f32("base_model.model.model.layers.0.self_attn.q_proj.base_layer.bias", [5]),
    ];
    using lora = LoraAdapter.open(adapter({ ...base, modules_to_save: ["lm_head", "norm"], bias: "all" }, tensors));
    expect(lora.modules.get("model.embed_tokens")).toMatchObject({ kind: "embedding", rank: 4 });
    expect([...lora.replaced.keys()].sort()).toEqual([
      "lm_head.weight",
      "model.layers.0.self_attn.q_proj.bias",
      "model.norm.weight",
    ]);
  });

  test("B may have a bias", () => {
    using lora = LoraAdapter.open(adapter({ ...base, lora_bias: true }, [...pair(q), f32(`${q}.lora_B.bias`, [5])]));
    expect(lora.modules.values().next().value?.bias?.shape).toEqual([5]);
  });

  test("tokens have rows, for the embedding or by module; a resized embedding comes along whole", () => {
    const whole = tokenRows.replace("trainable_tokens_delta", "base_layer.weight");
    using list = LoraAdapter.open(
      adapter({ ...base, trainable_token_indices: [7, 3] }, [f32(tokenRows, [2, 6]), f32(whole, [9, 6])]),
    );
    expect(list.tokens).toMatchObject([{ name: "model.embed_tokens", tokens: [7, 3], rows: { shape: [2, 6] } }]);
    expect([...list.replaced.keys()]).toEqual(["model.embed_tokens.weight"]);
    const byModule = { ...base, trainable_token_indices: { embed_tokens: [7, 3], lm_head: [1] } };
    const head = "base_model.model.lm_head.token_adapter.trainable_tokens_delta";
    using both = LoraAdapter.open(adapter(byModule, [f32(tokenRows, [2, 6]), f32(head, [1, 6])]));
    expect(both.tokens.map(({ name, tokens }) => [name, tokens])).toEqual([
      ["lm_head", [1]],
      ["model.embed_tokens", [7, 3]],
    ]);
  });

  test("DoRA has the norm of every row", () => {
    for (const name of ["lora_magnitude_vector", "lora_magnitude_vector.weight"]) {
      using lora = LoraAdapter.open(adapter({ ...base, use_dora: true }, [...pair(q), f32(`${q}.${name}`, [5])]));
      expect(lora.modules.values().next().value?.magnitude?.shape).toEqual([5]);
    }
  });

  test.each<[string, object, readonly TensorToWrite[], RegExp]>([
    ["no B", base, pair(q).slice(0, 1), /q_proj has lora_A but no lora_B/],
    ["no A", base, pair(q).slice(1), /q_proj has no lora_A/],
    ["another rank", { ...base, r: 8 }, pair(q), /has A \[4, 6\] and B \[5, 4\]; .* gives it rank 8/],
    ["A and B that do not meet", base, [pair(q)[0]!, pair(q, 3)[1]!], /A \[4, 6\] and B \[5, 3\]/],
    ["no magnitude", { ...base, use_dora: true }, pair(q), /no lora_magnitude_vector, which use_dora calls for/],
    ["a magnitude", base, [...pair(q), f32(`${q}.lora_magnitude_vector`, [5])], /but use_dora is false/],
    [
      "a short magnitude",
      { ...base, use_dora: true },
      [...pair(q), f32(`${q}.lora_magnitude_vector`, [4])],
      /each of 5/,
    ],
    ["no bias", { ...base, lora_bias: true }, pair(q), /q_proj has no bias, which lora_bias calls for/],
    ["a bias", base, [...pair(q), f32(`${q}.lora_B.bias`, [5])], /but lora_bias is false/],
    [
      "a short bias",
      { ...base, lora_bias: true },
      [...pair(q), f32(`${q}.lora_B.bias`, [4])],
      /bias of lora_B \[4\]; .* 5/,
    ],
    [
      "rows of no tokens",
      base,
      [f32(tokenRows, [2, 6])],
      /\[2, 6\], but trainable_token_indices .* names no tokens for/,
    ],
    [
      "a row too many",
      { ...base, trainable_token_indices: [3] },
      [f32(tokenRows, [2, 6])],
      /names 1 tokens for model.embed/,
    ],
    ["a weight twice", base, [f32("lm_head.weight", [2]), f32("base_model.model.lm_head.weight", [2])], /are the same/],
    ["nothing", base, [], /there is nothing in it/],
  ])("with %s is refused", (_, config, tensors, message) => {
    const error = refusal(config, tensors);
    expect(error).toBeInstanceOf(FormatError);
    expect(error!.message).toMatch(message);
  });

  test("files that are missing, or of another kind", () => {
    const bin = adapter(base);
    expect(thrownBy(() => LoraAdapter.open(bin))?.message).toMatch(/there is no adapter_model.safetensors; download/);
    writeFileSync(join(bin, "adapter_model.bin"), "");
    expect(thrownBy(() => LoraAdapter.open(bin))).toBeInstanceOf(UnsupportedError);
    expect(thrownBy(() => LoraAdapter.open(scratch))?.message).toMatch(
      /no adapter_config.json; this is not an adapter/,
    );
    const integers: TensorToWrite = {
      name: `${q}.lora_A.weight`,
      dtype: "int32",
      shape: [4, 6],
      data: new Int32Array(24),
    };
    expect(refusal(base, [integers])?.message).toMatch(/is of type I32, no float/);
    expect(refusal(base, [f32(`${q}.lora_C.weight`, [2])])?.message).toMatch(/does not know what tensor/);
  });
});

describe("what makes LoRA something else is refused by name", () => {
  test.each<[object, RegExp]>([
    [{ peft_type: "LOKR" }, /peft_type "LOKR" is not supported; llcuda reads LORA/],
    [{ peft_type: "IA3" }, /"IA3"/],
    [{ peft_type: undefined }, /peft_type is missing/],
    [{ target_parameters: ["experts.down_proj", "q_proj.weight"] }, /target_parameters names \["q_proj.weight"\]/],
    [{ trainable_token_indices: [1, -2] }, /trainable_token_indices is \[1,-2\]; expected a list of token ids/],
    [{ trainable_token_indices: { lm_head: 3 } }, /trainable_token_indices.lm_head is 3; expected a list of token ids/],
    [{ layer_replication: [[0, 4]] }, /layer_replication/],
    [{ lora_bias: "yes" }, /lora_bias is "yes"/],
    [{ use_qalora: true }, /use_qalora/],
    [{ init_lora_weights: "pissa_niter_16" }, /"pissa_niter_16": training began by changing the base model/],
    [{ r: 0 }, /r is 0; expected a positive integer/],
    [{ r: "8" }, /r is "8"/],
    [{ lora_alpha: -1 }, /lora_alpha is -1/],
    [{ rank_pattern: { q_proj: 0 } }, /rank_pattern.q_proj is 0; expected a positive integer/],
    [{ rank_pattern: { "(": 4 } }, /rank_pattern: "\(" is neither a module's name nor a regular expression/],
    [{ alpha_pattern: { "(a+)+$": 4 } }, /"\(a\+\)\+\$" is too intricate/],
    [{ alpha_pattern: { "a.*b.*c.*d.*": 4 } }, /too intricate/],
  ])("%o", (changes, message) => {
    const error = thrownBy(() => parseAdapterConfig({ ...base, ...changes }, "adapter_config.json"));
    expect([FormatError, UnsupportedError].some((type) => error instanceof type)).toBe(true);
    expect(error!.message).toMatch(message);
  });

  test("what only concerned training is not", () => {
    const training = {
      ...base,
      lora_dropout: 0.1,
      init_lora_weights: "gaussian",
      loftq_config: {},
      fan_in_fan_out: true,
    };
    const unset = { alora_invocation_tokens: null, layer_replication: null, target_parameters: [], use_qalora: false };
    expect(parseAdapterConfig({ ...training, ...unset }, "adapter_config.json").scaleOf("x")).toBe(2);
    expect(parseAdapterConfig({ ...base, target_modules: "all-linear" }, "c").targetModules).toBe("all-linear");
  });
});

test("patterns match whole names, or their ends at a dot", () => {
  const name = "model.layers.10.self_attn.q_proj";
  const matches = (key: string) => modulePattern(key, "test")(name);
  expect(["q_proj", "self_attn.q_proj", name, "layers\\.1\\d\\..*q_proj", "^model.*[qk]_proj"].map(matches)).toEqual([
    ...[true, true, true, true, true],
  ]);
  expect(["_proj", "0.self_attn.q_proj.x", "layers\\.1\\.self_attn\\.q_proj", "k_proj"].map(matches)).toEqual([
    ...[false, false, false, false],
  ]);
});

describe("the base model", () => {
  test("is found relative to the adapter, or as the path stands, or where it is told to be", () => {
    const directory = adapter(base, pair(q));
    mkdirSync(join(scratch, "base"), { recursive: true });
    const config = parseAdapterConfig(base, "c");
    expect(findBaseModel(directory, config)).toBe(join(scratch, "base"));
    expect(findBaseModel(directory, { ...config, baseModel: scratch })).toBe(scratch);
    expect(findBaseModel(directory, config, "other")).toBe("other");
  });

  test("that is not here is said", () => {
    const config = parseAdapterConfig({ ...base, base_model_name_or_path: "org/model" }, "c");
    const error = thrownBy(() => findBaseModel(scratch, config));
    expect(error).toBeInstanceOf(FileError);
    expect(error!.message).toMatch(
      /its base model "org\/model" is not at .*; download it and give its path with --base/,
    );
    const none = parseAdapterConfig({ ...base, base_model_name_or_path: null }, "c");
    expect(thrownBy(() => findBaseModel(scratch, none))?.message).toMatch(/base_model_name_or_path is missing/);
  });
});
