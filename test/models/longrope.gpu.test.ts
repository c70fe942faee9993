import { expect, test } from "vitest";
import { LanguageModel } from "../../src/engine/language-model.ts";
import { describeGpu, relativeL2 } from "../support/gpu.ts";
import { Variant } from "./variant.ts";

/** The context after which the long factors hold. */
const original = 40;
const pairs = 32;
const longFactors = Array.from({ length: pairs }, (_, i) => 1 + i / 4);

const longrope = (long: readonly number[]) => ({
  rope_type: "longrope",
  rope_theta: 10_000,
  short_factor: new Array(pairs).fill(1),
  long_factor: long,
  original_max_position_embeddings: original,
});
const prompt = (tokens: number) => Array.from({ length: tokens }, (_, i) => (i * 37 + 11) % 320);

// No reference run is needed: short factors of 1 are the plain frequencies, and equal long ones are linear scaling. Both
// are checked against transformers by the golden checkpoints.
describeGpu("longrope", (device) => {
  const load = (directory: string) => LanguageModel.fromPretrained(directory, { device, dtype: "float32" });
  const logits = async (model: LanguageModel, ids: readonly number[]) => {
    using tensor = await model.logits(ids);
    return Float64Array.from(tensor.toArray() as Float32Array);
  };
  const logitsOf = async (rope: object, ids: readonly number[]) => {
    using variant = new Variant("phi3-fused", { rope_parameters: rope });
    using model = await load(variant.directory);
    return await logits(model, ids);
  };

  test("dynamic scaling reaches factor times the context that max_position_embeddings says", async () => {
    const [trained, factor, theta, headDim] = [40, 2.5, 10_000, 64];
    using variant = new Variant("qwen2-bias", {
      max_position_embeddings: trained,
      head_dim: headDim,
      rope_parameters: { rope_type: "dynamic", rope_theta: theta, factor },
    });
    using model = await load(variant.directory);
    expect(model.network.contextLength).toBe(100);
    await expect(model.logits(prompt(101))).rejects.toThrow("holds 100");
    // For one length it is plain rotation with a larger base.
    const base = theta * ((factor * 100) / trained - (factor - 1)) ** (headDim / (headDim - 2));
    using plain = new Variant("qwen2-bias", { rope_parameters: { rope_type: "default", rope_theta: base } });
    using reference = await load(plain.directory);
    expect(relativeL2(await logits(model, prompt(100)), await logits(reference, prompt(100)))).toBeLessThan(1e-5);
  });

  test("sequences up to the original context have the short factors, longer ones the long ones throughout", async () => {
    const rope = { ...longrope(new Array(pairs).fill(4)), attention_factor: 1 };
    const plain = { rope_type: "default", rope_theta: 10_000 };
    const linear = { rope_type: "linear", rope_theta: 10_000, factor: 4 };
    const [short, long] = [prompt(original), prompt(original + 1)];
    expect(relativeL2(await logitsOf(rope, short), await logitsOf(plain, short))).toBeLessThan(1e-6);
    expect(relativeL2(await logitsOf(rope, long), await logitsOf(linear, long))).toBeLessThan(1e-6);
    expect(relativeL2(await logitsOf(rope, long), await logitsOf(plain, long))).toBeGreaterThan(1e-2);
  });

  // With a window, the first keys have no place in the cache any more when they are computed anew.
  test.each([null, 12])(
    "an answer that grows past it continues as if its prompt had been as long, window %s",
    async (window) => {
      using variant = new Variant("phi3-fused", { rope_parameters: longrope(longFactors), sliding_window: window });
      using model = await load(variant.directory);
      const prompts = [prompt(original - 3), prompt(original), prompt(original + 5), prompt(7)];
      const sampling = { temperature: 0, topK: 0, topP: 1, minP: 0, seed: 0n };
      const requests = prompts.map((promptIds) => ({
        promptIds,
        sampling,
        maxNewTokens: 8,
        stopIds: new Set<number>(),
      }));
      const answers: number[][] = prompts.map(() => []);
      for await (const event of model.engine.run(requests)) answers[event.request]!.push(event.tokenId);
      for (const [i, ids] of prompts.entries()) {
        const sequence = [...ids];
        for (let n = 0; n < 8; n++) {
          const last = (await logits(model, sequence)).slice(-320);
          sequence.push(last.indexOf(Math.max(...last)));
        }
        expect(answers[i]).toEqual(sequence.slice(ids.length));
      }
    },
  );

  test("a prompt in several pieces is turned as one of its whole length", async () => {
    using variant = new Variant("phi3-fused", { rope_parameters: longrope(longFactors) });
    using model = await load(variant.directory);
    // Longer than a pass on the software device, and whose first piece is within the original context.
    const ids = prompt(150);
    const sampling = { temperature: 0, topK: 0, topP: 1, minP: 0, seed: 0n };
    const fill = { promptIds: prompt(30), sampling, maxNewTokens: 1, stopIds: new Set<number>() };
    const drawn: number[] = [];
    for await (const event of model.engine.run([fill, { ...fill, promptIds: ids }])) {
      if (event.request === 1) drawn.push(event.tokenId);
    }
    const last = (await logits(model, ids)).slice(-320);
    expect(drawn).toEqual([last.indexOf(Math.max(...last))]);
  });
});
