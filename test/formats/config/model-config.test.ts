import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FileError, FormatError, UnsupportedError } from "../../../src/base/errors.ts";
import { count, readField } from "../../../src/formats/config/fields.ts";
import { parseModelConfig, readModelConfig } from "../../../src/formats/config/model-config.ts";
import { thrownBy } from "../support.ts";

const fixtures = join(import.meta.dirname, "../../fixtures");
let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "llcuda-config-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const small = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  vocab_size: 100,
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
};
const parse = (changes: object) => parseModelConfig({ ...small, ...changes }, "config.json");
const refusal = (changes: object) => thrownBy(() => parse(changes));

describe("fixtures", () => {
  test.each(readdirSync(fixtures).filter((name) => name.startsWith("llama")))("%s reads", (name) => {
    const config = readModelConfig(join(fixtures, name));
    expect(config.architecture).toBe("LlamaForCausalLM");
    expect(config.modelType).toBe("llama");
    expect(config.vocabSize).toBe(320);
    expect(config.eosTokenIds).toEqual([2]);
    expect(config.dtype?.name).toBe("bfloat16");
    expect(config.tieWordEmbeddings).toBe(false);
    expect(config.numAttentionHeads % config.numKeyValueHeads).toBe(0);
  });

  test("a head dimension apart from hidden size over heads", () => {
    const config = readModelConfig(join(fixtures, "qwen3-qknorm"));
    expect([config.hiddenSize, config.numAttentionHeads, config.headDim]).toEqual([128, 2, 128]);
  });

  test("rotary scaling", () => {
    const rope = (name: string) => readModelConfig(join(fixtures, name)).rope;
    expect(rope("llama3-gqa-bf16")).toEqual({ type: "default", theta: 500_000 });
    expect(rope("gemma3-text")).toEqual({ type: "linear", theta: 1e6, factor: 8 });
    expect(rope("llama31-rope-scaling")).toEqual({
      type: "llama3",
      theta: 500_000,
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalMaxPositions: 64,
    });
    const scaling = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 64 };
    expect(parse({ rope_scaling: scaling }).rope).toEqual({
      type: "yarn",
      theta: 10_000,
      factor: 4,
      originalMaxPositions: 64,
      betaFast: 32,
      betaSlow: 1,
      attentionFactor: undefined,
      mscale: undefined,
      mscaleAllDim: undefined,
      truncate: true,
    });
  });

  test("the demonstration model", () => {
    const config = readModelConfig(join(fixtures, "../../models/demo"));
    expect([config.hiddenSize, config.numHiddenLayers, config.numKeyValueHeads, config.headDim]).toEqual([
      256, 4, 2, 64,
    ]);
    expect(config.rmsNormEps).toBe(1e-5);
  });
});

describe("both forms of a config", () => {
  test("Llama's defaults", () => {
    const config = parse({});
    expect(config.numKeyValueHeads).toBe(4);
    expect(config.headDim).toBe(16);
    expect(config.rotaryDim).toBe(16);
    expect(config.rope).toEqual({ type: "default", theta: 10_000 });
    expect([config.rmsNormEps, config.hiddenAct, config.maxPositionEmbeddings]).toEqual([1e-6, "silu", 2048]);
    expect([config.qkvBias, config.outputBias, config.mlpBias, config.tieWordEmbeddings]).toEqual(
      new Array(4).fill(false),
    );
    expect([config.dtype, config.slidingWindow, config.quantization, config.bosTokenId]).toEqual(
      new Array(4).fill(undefined),
    );
    expect(config.eosTokenIds).toEqual([]);
  });

  test("the older form equals the newer", () => {
    const old = parse({
      torch_dtype: "bfloat16",
      rope_theta: 500_000.0,
      max_position_embeddings: 131_072,
      rope_scaling: {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
        rope_type: "llama3",
      },
    });
    const recent = parse({
      dtype: "bfloat16",
      max_position_embeddings: 131_072,
      rope_parameters: {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
        rope_theta: 500_000.0,
        rope_type: "llama3",
      },
    });
    expect(old.rope).toEqual(recent.rope);
    expect(old.dtype).toBe(recent.dtype);
    expect(old.rope.type).toBe("llama3");
  });

  test("legacy spellings: type, su, null for none, torch. before a dtype, -1 for no padding", () => {
    expect(parse({ rope_scaling: { type: "linear", factor: 2 } }).rope).toEqual({
      type: "linear",
      theta: 10_000,
      factor: 2,
    });
    expect(parse({ rope_scaling: null, num_key_value_heads: null, head_dim: null }).rope.type).toBe("default");
    expect(parse({ torch_dtype: "torch.float16" }).dtype?.name).toBe("float16");
    expect(parse({ dtype: null, torch_dtype: "auto" }).dtype).toBe(undefined);
    expect(parse({ pad_token_id: -1 }).padTokenId).toBe(undefined);
    const eight = new Array(8).fill(1.5);
    const su = parse({
      max_position_embeddings: 4096,
      original_max_position_embeddings: 1024,
      rope_scaling: { type: "su", short_factor: eight, long_factor: eight },
    }).rope;
    expect(su).toEqual({
      type: "longrope",
      theta: 10_000,
      shortFactor: eight,
      longFactor: eight,
      factor: 4,
      originalMaxPositions: 1024,
      attentionFactor: undefined,
    });
  });

  test("dynamic and yarn take the context that they scale from the config", () => {
    const dynamic = parse({ max_position_embeddings: 300, rope_scaling: { type: "dynamic", factor: 2 } }).rope;
    expect(dynamic).toEqual({ type: "dynamic", theta: 10_000, factor: 2, originalMaxPositions: 300 });
    const yarn = parse({
      max_position_embeddings: 512,
      rope_scaling: { rope_type: "yarn", original_max_position_embeddings: 128, mscale: 1, mscale_all_dim: 0.5 },
    }).rope;
    expect(yarn.type === "yarn" && [yarn.factor, yarn.mscale, yarn.mscaleAllDim]).toEqual([4, 1, 0.5]);
  });

  test("layers of different kinds have their own rotary embedding", () => {
    const config = parse({
      rope_parameters: {
        sliding_attention: { rope_type: "default", rope_theta: 10_000 },
        full_attention: { rope_type: "linear", factor: 8, rope_theta: 1e6 },
      },
    });
    expect(config.rope).toEqual({ type: "linear", theta: 1e6, factor: 8 });
    expect(config.slidingRope).toEqual({ type: "default", theta: 10_000 });
  });

  test("partial rotation, lists of end tokens, fields of other families", () => {
    expect(parse({ partial_rotary_factor: 0.5 }).rotaryDim).toBe(8);
    expect(parse({ rope_parameters: { rope_type: "default", partial_rotary_factor: 0.25 } }).rotaryDim).toBe(4);
    const config = parse({ eos_token_id: [7, 8], query_pre_attn_scalar: 96, hidden_activation: "gelu_pytorch_tanh" });
    expect(config.eosTokenIds).toEqual([7, 8]);
    expect(config.hiddenAct).toBe("gelu_pytorch_tanh");
    expect(readField(config.source, "query_pre_attn_scalar", count, 1)).toBe(96);
    expect(config.raw.query_pre_attn_scalar).toBe(96);
  });
});

describe("quantization is named", () => {
  test("bitsandbytes in 4 and 8 bits", () => {
    const nf4 = {
      quant_method: "bitsandbytes",
      load_in_4bit: true,
      bnb_4bit_quant_type: "nf4",
      bnb_4bit_use_double_quant: true,
      bnb_4bit_compute_dtype: "bfloat16",
      llm_int8_skip_modules: ["lm_head"],
    };
    expect(parse({ quantization_config: nf4 }).quantization).toEqual({
      method: "bitsandbytes",
      bits: 4,
      quantType: "nf4",
      doubleQuant: true,
      computeDType: "bfloat16",
      skipModules: ["lm_head"],
    });
    expect(parse({ quantization_config: { load_in_8bit: true } }).quantization).toEqual({
      method: "bitsandbytes",
      bits: 8,
      threshold: 6,
      skipModules: [],
    });
  });

  test("others by their name", () => {
    expect(parse({ quantization_config: { quant_method: "gptq", bits: 4 } }).quantization).toEqual({
      method: "other",
      name: "gptq",
      bits: 4,
    });
  });
});

describe("a config that does not hold together is refused in one sentence", () => {
  test.each<[string, object, RegExp]>([
    [
      "hidden size missing",
      { hidden_size: undefined },
      /config\.json: hidden_size is missing; expected a positive integer/,
    ],
    ["a size that is text", { vocab_size: "100" }, /vocab_size is "100"; expected a positive integer/],
    ["no layers", { num_hidden_layers: 0 }, /num_hidden_layers is 0; expected an integer from 1 to 10000/],
    ["a billion layers", { num_hidden_layers: 1e9 }, /num_hidden_layers is 1000000000; expected an integer from 1 to/],
    ["a fractional size", { intermediate_size: 1.5 }, /intermediate_size is 1\.5/],
    ["a size beyond reason", { vocab_size: 1e12 }, /vocab_size is 1000000000000/],
    [
      "heads that do not divide the width",
      { hidden_size: 65 },
      /hidden_size 65 is not a multiple of num_attention_heads 4/,
    ],
    [
      "heads that do not share evenly",
      { num_key_value_heads: 3 },
      /num_attention_heads 4 is not a multiple of num_key_value_heads 3/,
    ],
    ["more key heads than heads", { num_key_value_heads: 8 }, /is not a multiple of num_key_value_heads 8/],
    ["an odd head", { head_dim: 15 }, /rotates 15 dimensions; expected an even number/],
    ["rotation beyond the head", { partial_rotary_factor: 2 }, /expected an even number of at most head_dim/],
    ["an epsilon of zero", { rms_norm_eps: 0 }, /rms_norm_eps is 0; expected a positive number/],
    ["a flag that is a number", { tie_word_embeddings: 1 }, /tie_word_embeddings is 1; expected true or false/],
    ["architectures that are text", { architectures: "Llama" }, /architectures is "Llama"; expected a list of strings/],
    ["an end token that is text", { eos_token_id: "</s>" }, /eos_token_id is "<\/s>"; expected a token id or a list/],
    ["a negative token id", { eos_token_id: [-3] }, /eos_token_id is \[-3\]/],
    ["theta of zero", { rope_theta: 0 }, /rope_theta is 0; expected a positive number/],
    ["scaling that is text", { rope_scaling: "linear" }, /rope_scaling is "linear"; expected an object/],
    ["no factor", { rope_scaling: { type: "linear" } }, /rope_scaling\.factor is missing; expected a number/],
    [
      "a factor below one",
      { rope_scaling: { type: "linear", factor: 0.5 } },
      /factor is 0\.5; expected a number of at least 1/,
    ],
    [
      "llama3 without its context",
      { rope_scaling: { rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4 } },
      /original_max_position_embeddings is missing/,
    ],
    [
      "llama3 with crossed factors",
      { rope_parameters: { rope_type: "llama3", factor: 8, low_freq_factor: 4, high_freq_factor: 1 } },
      /high_freq_factor is 1; expected more than low_freq_factor, 4/,
    ],
    [
      "yarn with crossed betas",
      { rope_scaling: { type: "yarn", factor: 2, beta_fast: 1, beta_slow: 32 } },
      /beta_fast is 1; expected at least beta_slow, 32/,
    ],
    [
      "longrope of the wrong length",
      { rope_scaling: { type: "longrope", short_factor: [1], long_factor: [1] } },
      /short_factor has 1 numbers; expected one per frequency, 8/,
    ],
  ])("%s", (_, changes, message) => {
    const error = refusal(changes);
    expect(error).toBeInstanceOf(FormatError);
    expect(error?.message).toMatch(message);
  });

  test("what is well-formed but unknown", () => {
    expect(refusal({ rope_scaling: { type: "spiral", factor: 2 } })).toBeInstanceOf(UnsupportedError);
    expect(refusal({ rope_scaling: { type: "spiral" } })?.message).toMatch(
      /"spiral" is not supported; known are default, linear/,
    );
    expect(refusal({ torch_dtype: "float8_e4m3fn" })?.message).toMatch(/torch_dtype is "float8_e4m3fn"/);
    expect(refusal({ use_bidirectional_attention: true })?.message).toMatch(/this is an encoder/);
  });

  test("directories and files", () => {
    expect(thrownBy(() => readModelConfig(join(scratch, "absent")))?.message).toMatch(/there is no such directory/);
    expect(thrownBy(() => readModelConfig(scratch))?.message).toMatch(/there is no config\.json/);
    writeFileSync(join(scratch, "config.json"), "{");
    const error = thrownBy(() => readModelConfig(scratch));
    expect(error).toBeInstanceOf(FormatError);
    expect(error?.message).toMatch(/the model's config is not valid JSON/);
    expect(thrownBy(() => readModelConfig(join(scratch, "config.json")))).toBeInstanceOf(FileError);
    writeFileSync(join(scratch, "config.json"), '{"vocab_size": 1, "vocab_size": 2}');
    expect(thrownBy(() => readModelConfig(scratch))?.message).toMatch(/has the key "vocab_size" twice/);
  });
});
