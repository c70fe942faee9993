import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { LanguageModel } from "../../src/engine/language-model.ts";
import { mergeModel } from "../../src/models/export/merge-model.ts";
import { type Pair, pair, product, TemporaryAdapter } from "../support/adapter.ts";
import { describeGpu, normals, relativeL2 } from "../support/gpu.ts";
import { fixtures, type Values, Variant } from "./variant.ts";

const base = "llama3-gqa-bf16";
const random = (count: number, seed: number) => Float32Array.from(normals(count, seed), (v) => 0.2 * v);
/** One part of a stack, two of another, single projections, and gate without up: each with a bias of B. */
const pairs = [
  pair("model.layers.0.self_attn.q_proj", 8, 128, 256, 1),
  pair("model.layers.1.self_attn.k_proj", 5, 128, 128, 2),
  pair("model.layers.1.self_attn.v_proj", 24, 128, 128, 3),
  pair("model.layers.1.self_attn.o_proj", 16, 256, 128, 4),
  pair("model.layers.0.mlp.gate_proj", 4, 128, 256, 5),
  pair("model.layers.0.mlp.down_proj", 3, 256, 128, 6),
];
const biases = new Map(pairs.map(({ module, outputs }, i) => [module, random(outputs, 50 + i)]));
const tensorsOf = (all: readonly Pair[]) =>
  Object.fromEntries(
    all.map(({ module, outputs }) => [`${module}.lora_B.bias`, { shape: [outputs], data: biases.get(module)! }]),
  );
const withBiases = (all: readonly Pair[] = pairs) =>
  new TemporaryAdapter({ pairs: all, tensors: tensorsOf(all), config: { lora_bias: true } });

/** The base with biases at every projection: `start`, and with an adapter W + 2 · B · A and b + 2 · bias, in float64. */
function biased(start: number, adapted: readonly Pair[]): Variant {
  return new Variant(base, { attention_bias: true, mlp_bias: true }, (all) =>
    all.flatMap(({ name, shape, data }, i): Values[] => {
      const module = name.replace(/\.weight$/, "");
      const own = adapted.find((one) => one.module === module);
      const [rows, cols] = shape as [number, number];
      const sums = own ? data.map((value, at) => value + 2 * product(own, Math.floor(at / cols), at % cols)) : data;
      const weight = { name, shape, data: sums };
      if (!/_proj\.weight$/.test(name)) return [weight];
      const before = random(rows, 100 + i).map((value) => start * value);
      const bias = before.map((value, row) => value + (own ? 2 * biases.get(module)![row]! : 0));
      return [weight, { name: `${module}.bias`, shape: [rows], data: bias }];
    }),
  );
}

describeGpu("biases of B (lora_bias)", (device) => {
  const load = (path: string, options: object = {}) =>
    LanguageModel.fromPretrained(path, { device, dtype: "float32", ...options });
  const logits = async (path: string, ids: readonly number[], options: object = {}) => {
    using model = await load(path, options);
    using tensor = await model.logits([...ids]);
    return tensor.to("float32").toArray() as Float32Array;
  };
  const prompt = (length: number) => Array.from({ length }, (_, i) => (i * 37 + 11) % 320);

  // More than 64 rows in 16 bits are the tensor cores'.
  test.each([
    ["float32", 40, 1e-5],
    ["float16", 40, 5e-3],
    ["float16", 75, 5e-3],
  ] as const)("at run time as a checkpoint with them, %s, %i tokens", async (dtype, length, bound) => {
    using adapter = withBiases();
    using reference = biased(0, pairs);
    const ids = prompt(length);
    const expected = await logits(reference.directory, ids);
    using without = new TemporaryAdapter({ pairs });
    const path = join(fixtures, base);
    expect(relativeL2(await logits(path, ids, { adapter: without.directory }), expected)).toBeGreaterThan(0.05);
    expect(relativeL2(await logits(path, ids, { adapter: adapter.directory, dtype }), expected)).toBeLessThan(bound);
  });

  test("beside layers that have biases, and merged into those", async () => {
    using adapter = withBiases();
    using plain = biased(1, []);
    using reference = biased(1, pairs);
    const ids = prompt(40);
    const expected = await logits(reference.directory, ids);
    for (const merge of [false, true]) {
      const actual = await logits(plain.directory, ids, { adapter: adapter.directory, merge });
      expect(relativeL2(actual, expected)).toBeLessThan(1e-5);
    }
    using out = new TemporaryAdapter({});
    const file = join(out.directory, "merged");
    await mergeModel(plain.directory, adapter.directory, file, { device, to: "f32" });
    expect(relativeL2(await logits(file, ids), expected)).toBeLessThan(1e-5);
  });

  test("are not merged where a file would have no place for them", async () => {
    using adapter = withBiases();
    const message = /bias at model\.layers\.\d\.\w+\.\w+_proj \(lora_bias\).*none to add it to; apply it beside/;
    await expect(load(join(fixtures, base), { adapter: adapter.directory, merge: true })).rejects.toThrow(message);
    const out = join(adapter.directory, "merged");
    await expect(mergeModel(join(fixtures, base), adapter.directory, out, { device })).rejects.toThrow(message);
    expect(existsSync(out)).toBe(false);
  });

  test("at the head, whether or not its weight was trained too", async () => {
    const head = pair("lm_head", 4, 128, 320, 9);
    const bias = random(320, 70);
    const ids = prompt(20);
    const weight = { shape: [320, 128], data: random(320 * 128, 71) };
    for (const tensors of [{}, { "lm_head.base_layer.weight": weight }]) {
      using plain = new TemporaryAdapter({ pairs: [head], tensors });
      const config = { lora_bias: true };
      const own = { "lm_head.lora_B.bias": { shape: [320], data: bias } };
      using adapter = new TemporaryAdapter({ pairs: [head], tensors: { ...tensors, ...own }, config });
      const path = join(fixtures, base);
      const before = await logits(path, ids, { adapter: plain.directory });
      const after = await logits(path, ids, { adapter: adapter.directory });
      const expected = before.map((value, i) => value + 2 * bias[i % 320]!);
      expect(relativeL2(after, expected)).toBeLessThan(1e-6);
    }
  });

  test("an adapter of which only biases are not zero works", async () => {
    const zero = pairs.map((own) => ({ ...own, b: new Float32Array(own.b.length) }));
    using adapter = withBiases(zero);
    using reference = biased(0, zero);
    const ids = prompt(12);
    const actual = await logits(join(fixtures, base), ids, { adapter: adapter.directory });
    expect(relativeL2(actual, await logits(reference.directory, ids))).toBeLessThan(1e-5);
  });
});
