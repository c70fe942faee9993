import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { LanguageModel } from "../../src/engine/language-model.ts";
import { readModelConfig } from "../../src/formats/config/model-config.ts";
import { mergeModel } from "../../src/models/export/merge-model.ts";
import { quantizeModel } from "../../src/models/export/quantize-model.ts";
import { pair, product, TemporaryAdapter } from "../support/adapter.ts";
import { describeGpu, normals, relativeL2 } from "../support/gpu.ts";
import { fixtures, type Values, Variant } from "./variant.ts";

const base = "llama3-gqa-bf16";
const demo = fileURLToPath(new URL("../../models/demo/", import.meta.url));
const path = join(fixtures, base);
/** Holds every token that is trained here. */
const ids = [...Array.from({ length: 30 }, (_, i) => (i * 37 + 11) % 320), 30, 5, 6, 319, 17];
const rows = (count: number, width: number, seed: number) =>
  Float32Array.from(normals(count * width, seed), (v) => 0.3 * v);
const q = pair("model.layers.0.self_attn.q_proj", 8, 128, 256, 1);
const key = (module: string) => `${module}.token_adapter.trainable_tokens_delta`;

interface Trained {
  readonly module: "model.embed_tokens" | "lm_head";
  readonly tokens: readonly number[];
  readonly data: Float32Array;
}
const embedding: Trained = { module: "model.embed_tokens", tokens: [30, 5, 6, 319], data: rows(4, 128, 7) };
const head: Trained = { module: "lm_head", tokens: [8, 30], data: rows(2, 128, 8) };

/** As PEFT saves it: a list is for the embedding. */
function adapterOf(trained: readonly Trained[], more: object = {}): TemporaryAdapter {
  const isList = trained.length === 1 && trained[0] === embedding;
  const byModule = Object.fromEntries(trained.map(({ module, tokens }) => [module.replace("model.", ""), tokens]));
  return new TemporaryAdapter({
    pairs: [q],
    tensors: Object.fromEntries(
      trained.map(({ module, tokens, data }) => [key(module), { shape: [tokens.length, 128], data }]),
    ),
    config: { trainable_token_indices: isList ? embedding.tokens : byModule },
    ...more,
  });
}

/** The base with q merged and rows in the places of their tokens, in float64; `tied` puts the embedding's into the head too. */
function reference(trained: readonly Trained[], changes: object = {}, tied = false): Variant {
  return new Variant(base, { ...changes }, (all) =>
    all
      .filter(({ name }) => !tied || name !== "lm_head.weight")
      .map(({ name, shape, data }): Values => {
        const own = trained.find(({ module }) => name === `${module}.weight`);
        const values = data.slice();
        for (const [i, token] of own?.tokens.entries() ?? []) {
          values.set(own!.data.subarray(i * 128, (i + 1) * 128), token * 128);
        }
        const isAdapted = name === `${q.module}.weight`;
        const sums = isAdapted ? values.map((v, i) => v + 2 * product(q, Math.floor(i / 128), i % 128)) : values;
        return { name, shape, data: sums };
      }),
  );
}

describeGpu("rows of single tokens (trainable_token_indices)", (device) => {
  const load = (from: string, options: object = {}) =>
    LanguageModel.fromPretrained(from, { device, dtype: "float32", ...options });
  const logits = async (from: string, options: object = {}) => {
    using model = await load(from, options);
    using tensor = await model.logits(ids);
    return tensor.toArray() as Float32Array;
  };

  test.each([
    ["the embedding", [embedding], {}],
    ["the head", [head], {}],
    ["both apart", [embedding, head], {}],
    ["both, where they are one weight", [embedding], { tie_word_embeddings: true }],
  ] as const)("of %s: at run time, merged, and merged on disk", async (_, trained, changes) => {
    const tied = "tie_word_embeddings" in changes;
    using plain = new Variant(base, changes);
    using adapter = adapterOf(trained);
    using expected = reference(trained, changes, tied);
    const want = await logits(expected.directory);
    using untrained = adapterOf(trained.map((one) => ({ ...one, tokens: [], data: new Float32Array() })));
    expect(relativeL2(await logits(plain.directory, { adapter: untrained.directory }), want)).toBeGreaterThan(0.02);
    for (const merge of [false, true]) {
      const got = await logits(plain.directory, { adapter: adapter.directory, merge });
      expect(relativeL2(got, want)).toBeLessThan(1e-5);
    }
    using out = new TemporaryAdapter({});
    await mergeModel(plain.directory, adapter.directory, join(out.directory, "x"), { device, to: "f32" });
    expect(relativeL2(await logits(join(out.directory, "x")), want)).toBeLessThan(1e-5);
  });

  test("of the head alone, where it is the embedding's weight, leave the embedding as it is", async () => {
    using tied = new Variant(base, { tie_word_embeddings: true });
    using untied = new Variant(base, {}, (all) => {
      const table = all.find(({ name }) => name === "model.embed_tokens.weight")!;
      return all.map((one) => (one.name === "lm_head.weight" ? { ...table, name: one.name } : one));
    });
    for (const trained of [[head], [embedding, head]]) {
      using adapter = adapterOf(trained);
      using same = adapterOf(trained);
      const want = await logits(untied.directory, { adapter: same.directory });
      for (const merge of [false, true]) {
        const got = await logits(tied.directory, { adapter: adapter.directory, merge });
        expect(relativeL2(got, want)).toBeLessThan(1e-5);
      }
      const out = join(adapter.directory, "merged");
      await expect(mergeModel(tied.directory, adapter.directory, out, { device })).rejects.toThrow(/one weight with/);
    }
  });

  test("beside a quantized base, whose embedding may be quantized as well", async () => {
    using out = new TemporaryAdapter({});
    const gguf = join(out.directory, "demo.gguf");
    await quantizeModel(demo, gguf, { to: "q8_0", device: device.name });
    await quantizeModel(gguf, join(out.directory, "same"), { to: "f32", device: device.name });
    using adapter = new TemporaryAdapter({
      tensors: { [key("model.embed_tokens")]: { shape: [2, 256], data: rows(2, 256, 9) } },
      config: { trainable_token_indices: [30, 5] },
    });
    const options = { adapter: adapter.directory };
    const want = await logits(join(out.directory, "same"), options);
    expect(relativeL2(await logits(gguf), want)).toBeGreaterThan(0.02);
    expect(relativeL2(await logits(gguf, options), want)).toBeLessThan(1e-5);
    await expect(load(gguf, { ...options, merge: true })).rejects.toThrow(/are quantized; apply it beside/);
  });

  test.each([false, true])("a vocabulary that training made larger, tied: %s", async (tied) => {
    const [larger, tokens] = [324, [320, 323]];
    const [table, own] = [rows(larger, 128, 20), rows(2, 128, 21)];
    const whole = tied ? table : rows(larger, 128, 22);
    // What PEFT saves: both whole, and of one weight everything twice.
    using adapter = new TemporaryAdapter({
      pairs: [q],
      tensors: {
        "model.embed_tokens.token_adapter.base_layer.weight": { shape: [larger, 128], data: table },
        [tied ? "lm_head.token_adapter.base_layer.weight" : "lm_head.weight"]: { shape: [larger, 128], data: whole },
        [key("model.embed_tokens")]: { shape: [2, 128], data: own },
        ...(tied && { [key("lm_head")]: { shape: [2, 128], data: own } }),
      },
      config: { trainable_token_indices: tokens },
    });
    const changed = table.slice();
    for (const [i, token] of tokens.entries()) changed.set(own.subarray(i * 128, (i + 1) * 128), token * 128);
    using plain = new Variant(base, tied ? { tie_word_embeddings: true } : {});
    using expected = new Variant(base, { vocab_size: larger, tie_word_embeddings: tied }, (all) =>
      all.flatMap((one): Values[] => {
        if (one.name === "lm_head.weight") return tied ? [] : [{ ...one, shape: [larger, 128], data: whole }];
        if (one.name === "model.embed_tokens.weight") return [{ ...one, shape: [larger, 128], data: changed }];
        if (one.name !== `${q.module}.weight`) return [one];
        return [{ ...one, data: one.data.map((v, i) => v + 2 * product(q, Math.floor(i / 128), i % 128)) }];
      }),
    );
    const prompt = [...ids, 320, 321, 323];
    const run = async (from: string, options: object = {}) => {
      using model = await load(from, options);
      using tensor = await model.logits(prompt);
      return tensor.toArray() as Float32Array;
    };
    const want = await run(expected.directory);
    const options = { base: plain.directory };
    for (const merge of [false, true]) {
      expect(relativeL2(await run(adapter.directory, { ...options, merge }), want)).toBeLessThan(1e-5);
    }
    using out = new TemporaryAdapter({});
    const [onDisk, saved] = [join(out.directory, "x"), join(out.directory, "y")];
    await mergeModel(plain.directory, adapter.directory, onDisk, { device, to: "f32" });
    using merged = await load(adapter.directory, { ...options, merge: true });
    await merged.savePretrained(saved);
    for (const directory of [onDisk, saved]) {
      expect(relativeL2(await run(directory), want)).toBeLessThan(1e-5);
      expect(readModelConfig(directory).raw.vocab_size).toBe(larger);
    }
    expect(readModelConfig(onDisk).tieWordEmbeddings).toBe(tied);
    using alone = await load(plain.directory);
    await expect(alone.loadAdapter("larger", adapter.directory)).rejects.toThrow(
      /the size of the vocabulary: .* is \[324, 128\], but .* \[320, 128\]; load the adapter along with its base/,
    );
  });

  test("requests choose it, beside others and none", async () => {
    using adapter = adapterOf([embedding]);
    using other = new TemporaryAdapter({ pairs: [q] });
    using model = await load(path, { tokenizer: undefined });
    const run = async (adapters: readonly (string | null)[]) => {
      const requests = adapters.map((name) => ({
        promptIds: ids,
        sampling: { temperature: 0, topK: 0, topP: 1, minP: 0, seed: 0n },
        adapter: model.adapterFor(name),
        maxNewTokens: 8,
        stopIds: new Set<number>(),
      }));
      const tokens: number[][] = adapters.map(() => []);
      for await (const event of model.engine.run(requests)) tokens[event.request]!.push(event.tokenId);
      return tokens.map(String);
    };
    const [before] = await run([null]);
    await model.loadAdapter("rows", adapter.directory);
    await model.loadAdapter("other", other.directory);
    expect(model.engine.adapters.get("rows").replacesWeights).toBe(true);
    const [none, first, second, again] = await run([null, "rows", "other", "rows"]);
    expect(none).toBe(before);
    expect(first).toBe(again);
    expect(new Set([none, first, second]).size).toBe(3);
    expect([first]).toEqual(await run(["rows"]));
    model.unloadAdapter("rows");
    expect(await run([null])).toEqual([before]);
  });

  test("of a token that the base does not have, or of another width, are refused", async () => {
    using beyond = adapterOf([{ ...embedding, tokens: [30, 5, 6, 320] }, head]);
    using wide = new TemporaryAdapter({
      tensors: { [key("lm_head")]: { shape: [1, 64], data: rows(1, 64, 1) } },
      config: { trainable_token_indices: { lm_head: [3] } },
    });
    const [tooFar, tooWide] = [
      /trained token 320, but .*embed_tokens .* has 320 rows/,
      /is \[1, 64\], but .* \[1, 128\]/,
    ];
    for (const [adapter, message] of [[beyond, tooFar] as const, [wide, tooWide] as const]) {
      for (const merge of [false, true]) {
        await expect(load(path, { adapter: adapter.directory, merge })).rejects.toThrow(message);
      }
      const out = join(adapter.directory, "merged");
      await expect(mergeModel(path, adapter.directory, out, { device })).rejects.toThrow(message);
    }
  });

  test("that are the base's own change nothing", async () => {
    let own = new Float32Array();
    using _ = new Variant(base, {}, (all) => {
      own = all.find(({ name }) => name === "model.embed_tokens.weight")!.data.slice(5 * 128, 6 * 128);
      return all;
    });
    using adapter = new TemporaryAdapter({
      tensors: { [key("model.embed_tokens")]: { shape: [1, 128], data: own } },
      config: { trainable_token_indices: [5] },
    });
    await expect(load(path, { adapter: adapter.directory })).rejects.toThrow(/changes nothing/);
  });
});
