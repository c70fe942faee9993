import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { LanguageModel } from "../../src/engine/language-model.ts";
import { verifyCheckpoint, verifyModel } from "../../src/engine/verify.ts";
import { mergeModel } from "../../src/models/export/merge-model.ts";
import { quantizeModel } from "../../src/models/export/quantize-model.ts";
import { QuantizedLinear } from "../../src/nn/quantized-linear.ts";
import { type AdapterContent, type Pair, pair, product, TemporaryAdapter } from "../support/adapter.ts";
import { describeGpu, normals, relativeL2 } from "../support/gpu.ts";
import { fixtures, type Values, Variant } from "./variant.ts";

const base = "llama3-gqa-bf16";
const ids = Array.from({ length: 40 }, (_, i) => (i * 37 + 11) % 320);
const random = (count: number, seed: number, scale = 0.05) => Float32Array.from(normals(count, seed), (v) => scale * v);

const attention = [
  pair("model.layers.0.self_attn.q_proj", 8, 128, 256, 1),
  pair("model.layers.0.self_attn.v_proj", 5, 128, 128, 2),
  pair("model.layers.1.self_attn.k_proj", 24, 128, 128, 3),
  pair("model.layers.1.self_attn.o_proj", 16, 256, 128, 4),
];
const feedForward = [
  pair("model.layers.0.mlp.gate_proj", 4, 128, 256, 5),
  pair("model.layers.1.mlp.up_proj", 8, 128, 256, 6),
  pair("model.layers.1.mlp.gate_proj", 3, 128, 256, 7),
  pair("model.layers.0.mlp.down_proj", 8, 256, 128, 8),
];
const head = [pair("lm_head", 4, 128, 320, 9)];
const embeddings = [pair("model.embed_tokens", 4, 320, 128, 10)];
const trained = {
  "model.embed_tokens.modules_to_save.weight": { shape: [320, 128], data: random(320 * 128, 11) },
  "lm_head.modules_to_save.default.weight": { shape: [320, 128], data: random(320 * 128, 12) },
};

/** The base with an adapter merged by the formula, in float64: W + 2 · B · A. */
function merged(
  { pairs = [], embeddings: tables = [], tensors = {} }: AdapterContent,
  others: ReadonlyMap<string, Float32Array> = new Map(),
): Variant {
  const change = ({ name, shape, data: own }: Values): Values => {
    const data = others.get(name) ?? own;
    const module = name.replace(/\.weight$/, "");
    const find = (all: readonly Pair[]) => all.find((p) => p.module === module);
    const cols = shape[1]!;
    const whole = Object.entries(tensors).find(([key]) => key.startsWith(`${module}.modules_to_save`));
    const [linear, table] = [find(pairs), find(tables)];
    const values = (whole?.[1].data ?? data).map((value, i) => {
      const [row, col] = [Math.floor(i / cols), i % cols];
      if (linear) return value + 2 * product(linear, row, col);
      return table ? value + 2 * product(table, col, row) : value;
    });
    return { name, shape, data: values };
  };
  return new Variant(base, {}, (all) => all.map(change));
}

/** The values of a model's quantized weights, by the checkpoint's names. */
function quantizedValues({ network }: LanguageModel): Map<string, Float32Array> {
  const values = new Map<string, Float32Array>();
  for (const module of network.modules()) {
    if (!(module instanceof QuantizedLinear)) continue;
    using dequantized = module.weight.dequantize();
    const all = dequantized.toArray() as Float32Array;
    let at = 0;
    for (const { name, rows } of module.stacks) {
      const end = at + rows * module.inFeatures;
      values.set(`${name}.weight`, all.slice(at, end));
      at = end;
    }
  }
  return values;
}

describeGpu("LoRA adapters", (device) => {
  const load = (options: object) => LanguageModel.fromPretrained(join(fixtures, base), { device, ...options });

  test.each(["float32", "float16", "bfloat16"])("a golden adapter gives peft's logits in %s", async (dtype) => {
    const directory = join(fixtures, "lora-rslora-qv");
    for (const merge of [false, true]) {
      const { verification } = await verifyCheckpoint((options) =>
        LanguageModel.fromPretrained(directory, { device, dtype, merge, ...options }),
      );
      expect({ ...verification, passed: true }).toEqual(verification);
    }
  });

  const contents: [string, AdapterContent][] = [
    ["attention", { pairs: attention }],
    ["feed-forward", { pairs: feedForward }],
    ["the head", { pairs: head }],
    ["an embedding", { embeddings }],
    ["everything", { pairs: [...attention, ...feedForward, ...head], embeddings }],
    ["embedding and head that were trained whole", { pairs: attention, tensors: trained }],
  ];
  test.each(contents)("%s: at run time and merged as the merged checkpoint", async (_, content) => {
    using checkpoint = merged(content);
    using adapter = new TemporaryAdapter(content);
    const logits = async (model: LanguageModel) => {
      using tensor = await model.logits(ids);
      return tensor.toArray() as Float32Array;
    };
    using reference = await LanguageModel.fromPretrained(checkpoint.directory, { device, dtype: "float32" });
    const expected = await logits(reference);
    using plain = await load({ dtype: "float32" });
    expect(relativeL2(await logits(plain), expected) > 0.02).toBe(true);
    // float32 sums in another order: a wrong scale or a wrong row is a thousand times that.
    for (const merge of [false, true]) {
      using model = await load({ dtype: "float32", adapter: adapter.directory, merge });
      expect(relativeL2(await logits(model), expected) < 1e-5).toBe(true);
    }
  });

  test("beside a quantized base, the base's own values are what it adds to", async () => {
    const content = { pairs: [...attention, ...feedForward, ...head] };
    using adapter = new TemporaryAdapter(content);
    const options = { dtype: "float32", quantization: "nf4" } as const;
    using model = await load({ ...options, adapter: adapter.directory });
    const values = quantizedValues(model);
    expect(values.size).toBe(14);
    using checkpoint = merged(content, values);
    using reference = await LanguageModel.fromPretrained(checkpoint.directory, { device, dtype: "float32" });
    using expected = await reference.logits(ids);
    using actual = await model.logits(ids);
    expect(relativeL2(actual.toArray() as Float32Array, expected.toArray() as Float32Array) < 1e-5).toBe(true);
    await expect(load({ ...options, adapter: adapter.directory, merge: true })).rejects.toThrow(
      /are quantized; apply it/,
    );
  });

  test("DoRA is merged: every row is brought to its magnitude", async () => {
    const [q] = attention as [Pair];
    const magnitude = Float32Array.from(random(256, 20, 0.1), (v) => 1 + v);
    const key = `${q.module}.lora_magnitude_vector`;
    using adapter = new TemporaryAdapter({
      pairs: [q],
      tensors: { [key]: { shape: [256], data: magnitude } },
      config: { use_dora: true },
    });
    using checkpoint = new Variant(base, {}, (all) =>
      all.map(({ name, shape, data }) => {
        if (name !== `${q.module}.weight`) return { name, shape, data };
        const sums = Float64Array.from(data, (v, i) => v + 2 * product(q, Math.floor(i / 128), i % 128));
        const norms = Array.from({ length: 256 }, (_, row) => Math.hypot(...sums.subarray(row * 128, (row + 1) * 128)));
        const scaled = sums.map((v, i) => (v * magnitude[Math.floor(i / 128)]!) / norms[Math.floor(i / 128)]!);
        return { name, shape, data: Float32Array.from(scaled) };
      }),
    );
    using reference = await LanguageModel.fromPretrained(checkpoint.directory, { device, dtype: "float32" });
    using expected = await reference.logits(ids);
    // There is no other way, so it need not be asked for.
    for (const merge of [true, undefined]) {
      using model = await load({ dtype: "float32", adapter: adapter.directory, merge });
      using actual = await model.logits(ids);
      expect(relativeL2(actual.toArray() as Float32Array, expected.toArray() as Float32Array) < 1e-5).toBe(true);
    }
    for (const options of [{ merge: false }, { quantization: "nf4" }]) {
      await expect(load({ adapter: adapter.directory, ...options })).rejects.toThrow(/uses DoRA.*only by merging/);
    }
  });

  test("norms that were trained are merged", async () => {
    const norms = {
      "model.norm.modules_to_save.weight": { shape: [128], data: random(128, 13, 1) },
      "model.layers.1.post_attention_layernorm.weight": { shape: [128], data: random(128, 14, 1) },
    };
    using adapter = new TemporaryAdapter({ pairs: attention, tensors: norms });
    using folder = new TemporaryAdapter({});
    await mergeModel(join(fixtures, base), adapter.directory, join(folder.directory, "merged"), { device, to: "f32" });
    using reference = await LanguageModel.fromPretrained(join(folder.directory, "merged"), {
      device,
      dtype: "float32",
    });
    using expected = await reference.logits(ids);
    using model = await load({ dtype: "float32", adapter: adapter.directory });
    using actual = await model.logits(ids);
    expect(model.adapters).toEqual([]);
    expect(relativeL2(actual.toArray() as Float32Array, expected.toArray() as Float32Array) < 1e-5).toBe(true);
  });

  // PEFT saves the head's own weight along with an adapter on it, trained or not.
  test.each([false, true])("an adapter on the head comes with the head's weight, changed: %s", async (isChanged) => {
    const content = { pairs: [...attention, ...head] };
    const whole = trained["lm_head.modules_to_save.default.weight"];
    const key = "lm_head.base_layer.weight";
    let data: Float32Array = new Float32Array();
    using reference = isChanged
      ? merged({ ...content, tensors: { "lm_head.modules_to_save.weight": whole } })
      : merged(content);
    using _ = new Variant(base, {}, (all) => {
      data = all.find(({ name }) => name === "lm_head.weight")!.data;
      return all;
    });
    const saved = isChanged ? whole : { shape: [320, 128], data };
    using adapter = new TemporaryAdapter({ ...content, tensors: { [key]: saved } });
    using expectedModel = await LanguageModel.fromPretrained(reference.directory, { device, dtype: "float32" });
    using expected = await expectedModel.logits(ids);
    for (const merge of [false, true]) {
      using model = await load({ dtype: "float32", adapter: adapter.directory, merge });
      using actual = await model.logits(ids);
      expect(relativeL2(actual.toArray() as Float32Array, expected.toArray() as Float32Array) < 1e-5).toBe(true);
      // A head that stays the base's may share a batch with other adapters.
      if (!merge) expect(model.engine.adapters.get(model.adapters[0]!).replacesWeights).toBe(isChanged);
    }
  });

  describe("a merged model on disk", () => {
    const folder = mkdtempSync(join(tmpdir(), "llcuda-merge-"));
    afterAll(() => rmSync(folder, { recursive: true }));
    const logits = async (name: string, options: object = {}) => {
      using model = await LanguageModel.fromPretrained(name, { device, dtype: "float32", ...options });
      using tensor = await model.logits(ids);
      return tensor.toArray() as Float32Array;
    };
    const source = join(fixtures, base);

    test("gives peft's logits", async () => {
      const [golden, out] = [join(fixtures, "lora-rslora-qv"), join(folder, "golden")];
      const { types } = await mergeModel(source, golden, out, { device });
      expect(types.map(({ type }) => type)).toEqual(["bfloat16"]);
      await mergeModel(source, golden, out, { device, to: "f32", force: true });
      const { verification } = await verifyCheckpoint(
        (options) => LanguageModel.fromPretrained(out, { device, dtype: "float32", ...options }),
        join(golden, "expected.safetensors"),
      );
      expect({ ...verification, passed: true }).toEqual(verification);
    });

    test("of a quantized base has the values that the base has at run time", async () => {
      const [nf4, out] = [join(folder, "nf4"), join(folder, "from-nf4")];
      using adapter = new TemporaryAdapter({ pairs: [...attention, ...feedForward, ...head], embeddings });
      await quantizeModel(source, nf4, { to: "nf4-dq", device: device.name });
      await mergeModel(nf4, adapter.directory, out, { device, to: "f32" });
      const expected = await logits(nf4, { adapter: adapter.directory });

      expect(relativeL2(await logits(out), expected) < 1e-5).toBe(true);
    });

    test("has the weights that were trained whole", async () => {
      const out = join(folder, "whole");
      const norm = { shape: [128], data: random(128, 13, 1) };
      const tensors = { ...trained, "model.norm.modules_to_save.weight": norm };
      using adapter = new TemporaryAdapter({ pairs: attention, tensors });
      using reference = merged({ pairs: attention, tensors });
      await mergeModel(source, adapter.directory, out, { device, to: "f32" });

      expect(relativeL2(await logits(out), await logits(reference.directory)) < 1e-5).toBe(true);
    });

    test("is not written for a change that has no place", async () => {
      using tied = new Variant(base, { tie_word_embeddings: true });
      using table = new TemporaryAdapter({ embeddings });
      using other = new TemporaryAdapter({ pairs: [pair("model.layers.9.self_attn.q_proj", 8, 128, 256, 1)] });
      using wide = new TemporaryAdapter({ pairs: [pair("model.layers.0.self_attn.q_proj", 8, 64, 256, 1)] });
      const out = join(folder, "none");
      const merge = (from: string, { directory }: TemporaryAdapter) => mergeModel(from, directory, out, { device });
      await expect(merge(tied.directory, table)).rejects.toThrow(/one weight with the other of head and embedding/);
      await expect(merge(source, other)).rejects.toThrow(/has no weight "model.layers.9.*another base/);
      await expect(merge(source, wide)).rejects.toThrow(/of shape \[256, 64\], but .* is \[256, 128\]/);
      expect(existsSync(out)).toBe(false);
    });
  });

  test("a tied head keeps the embedding that an adapter changes", async () => {
    using tied = new Variant(base, { tie_word_embeddings: true });
    using untied = new Variant(base, {}, (all) => {
      const table = all.find(({ name }) => name === "model.embed_tokens.weight")!;
      const changed = table.data.map((v, i) => v + 2 * product(embeddings[0]!, i % 128, Math.floor(i / 128)));
      return all.map((own) => {
        if (own.name === "lm_head.weight") return { ...table, name: own.name };
        return own === table ? { ...table, data: changed } : own;
      });
    });
    using adapter = new TemporaryAdapter({ embeddings });
    using reference = await LanguageModel.fromPretrained(untied.directory, { device, dtype: "float32" });
    using expected = await reference.logits(ids);
    for (const merge of [false, true]) {
      const options = { device, dtype: "float32", adapter: adapter.directory, merge } as const;
      using model = await LanguageModel.fromPretrained(tied.directory, options);
      using actual = await model.logits(ids);
      expect(relativeL2(actual.toArray() as Float32Array, expected.toArray() as Float32Array) < 1e-5).toBe(true);
    }
  });

  test("a wrong reference fails", async () => {
    using model = await LanguageModel.fromPretrained(join(fixtures, "lora-rslora-qv"), { device, dtype: "float32" });
    model.defaultAdapter = null;
    const verification = await verifyModel(model);
    expect(verification.passed).toBe(false);
  });
});
