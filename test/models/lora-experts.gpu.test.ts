import { join } from "node:path";
import { expect, test } from "vitest";
import { LanguageModel } from "../../src/engine/language-model.ts";
import { mergeModel } from "../../src/models/export/merge-model.ts";
import { type AdapterContent, type Pair, pair, product, TemporaryAdapter } from "../support/adapter.ts";
import { describeGpu, normals, relativeL2 } from "../support/gpu.ts";
import { fixtures, Variant } from "./variant.ts";

const base = "mixtral-5x3";
const [experts, hidden, inner, rank] = [5, 64, 40, 3];
const ids = Array.from({ length: 30 }, (_, i) => (i * 37 + 11) % 160);
const mixture = "model.layers.1.block_sparse_moe.experts";

/** What an adapter with alpha = 2 r adds to a weight of the checkpoint at [row, col]; 0 for others. */
type Change = (name: string, row: number, col: number) => number;

/** An adapter of each expert by itself, as PEFT makes them where experts are modules of their own. */
const single = [
  pair(`${mixture}.0.w1`, 4, hidden, inner, 1),
  pair(`${mixture}.3.w3`, 2, hidden, inner, 2),
  pair(`${mixture}.4.w2`, 5, inner, hidden, 3),
];
const ofSingle: Change = (name, row, col) => {
  const found = single.find(({ module }) => `${module}.weight` === name);
  return found ? 2 * product(found, row, col) : 0;
};

/** Of the two parameters that the experts of a layer share in transformers 5: A [E · r, in], expert after expert, B [out, r · E]. */
const draw = (count: number, seed: number) => Float32Array.from(normals(count, seed), (v) => 0.1 * v);
const shared = {
  gateUp: {
    a: draw(experts * rank * hidden, 4),
    b: draw(2 * inner * rank * experts, 5),
    cols: hidden,
    rows: 2 * inner,
  },
  down: { a: draw(experts * rank * inner, 6), b: draw(hidden * rank * experts, 7), cols: inner, rows: hidden },
};
const ofShared: Change = (name, row, col) => {
  const [, expert, projection] = new RegExp(`^${mixture}\\.(\\d)\\.w(\\d)\\.weight$`).exec(name) ?? [];
  if (expert === undefined) return 0;
  const { a, b, cols } = projection === "2" ? shared.down : shared.gateUp;
  const out = projection === "3" ? inner + row : row;
  let sum = 0;
  for (let r = 0; r < rank; r++) {
    sum += b[out * rank * experts + r * experts + Number(expert)]! * a[(Number(expert) * rank + r) * cols + col]!;
  }
  return 2 * sum;
};
const factors = ({ a, b, rows, cols }: (typeof shared)["down"], at: string) => ({
  [`${at}.lora_A.weight`]: { shape: [experts * rank, cols], data: a },
  [`${at}.lora_B.weight`]: { shape: [rows, experts * rank], data: b },
});
const today = "model.layers.1.mlp.experts";
const sharedTensors = { ...factors(shared.down, today), ...factors(shared.gateUp, `${today}.base_layer`) };
const config = { r: rank, lora_alpha: 2 * rank, target_parameters: ["mlp.experts.gate_up_proj", "experts.down_proj"] };

const contents: [string, AdapterContent, Change][] = [
  ["of each expert by itself", { pairs: single }, ofSingle],
  ["of the parameters that all experts of a layer share", { tensors: sharedTensors, config }, ofShared],
];

describeGpu("LoRA on experts", (device) => {
  const logits = async (directory: string, options: object = {}) => {
    using model = await LanguageModel.fromPretrained(directory, { device, dtype: "float32", ...options });
    using tensor = await model.logits(ids);
    return tensor.toArray() as Float32Array;
  };
  const source = join(fixtures, base);

  test.each(contents)("%s is merged as the merged checkpoint", async (_, content, change) => {
    using adapter = new TemporaryAdapter(content);
    using merged = new Variant(base, {}, (all) =>
      all.map(({ name, shape, data }) => {
        const cols = shape[1] ?? 1;
        return { name, shape, data: data.map((v, i) => v + change(name, Math.floor(i / cols), i % cols)) };
      }),
    );
    const expected = await logits(merged.directory);
    expect(relativeL2(await logits(source), expected)).toBeGreaterThan(0.02);
    expect(relativeL2(await logits(source, { adapter: adapter.directory }), expected)).toBeLessThan(1e-5);
  });

  test("of a layer together is not written weight by weight", async () => {
    using adapter = new TemporaryAdapter({ tensors: sharedTensors, config });
    const out = join(adapter.directory, "merged");
    await expect(mergeModel(source, adapter.directory, out, { device })).rejects.toThrow(
      /not written weight by weight/,
    );
  });

  test("is refused where it does not fit, and beside the weights", async () => {
    const refused = async (content: AdapterContent, message: RegExp, options: object = {}) => {
      using adapter = new TemporaryAdapter(content);
      await expect(logits(source, { adapter: adapter.directory, ...options })).rejects.toThrow(message);
    };
    const wide: Pair = pair(`${mixture}.0.w1`, 4, hidden, hidden, 1);
    await refused({ pairs: single }, /works on experts, which llcuda applies only by merging/, { merge: false });
    await refused({ pairs: [wide] }, /the base model calls for \[40, 4\]/);
    await refused({ pairs: [pair(`${mixture}.5.w1`, 4, hidden, inner, 1)] }, /has no such layer/);
    const fewer = { ...config, r: 5 };
    await refused({ tensors: sharedTensors, config: fewer }, /trained on another base/);
    await refused({ tensors: sharedTensors, config: { ...config, r: 2 } }, /gives each expert rank 2/);
    const router = { ...config, target_parameters: ["mlp.gate.weight"] };
    await refused({ tensors: sharedTensors, config: router }, /target_parameters names \["mlp.gate.weight"\]/);
  });
});
