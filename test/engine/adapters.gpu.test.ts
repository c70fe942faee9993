import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ArgumentError, FormatError, UnsupportedError } from "../../src/base/errors.ts";
import { divide } from "../../src/engine/engine.ts";
import { LanguageModel } from "../../src/engine/language-model.ts";
import { PagedCache } from "../../src/engine/paged-cache.ts";
import { prefill } from "../../src/engine/prefill.ts";
import type { TokenRequest } from "../../src/engine/request.ts";
import { pair, TemporaryAdapter } from "../support/adapter.ts";
import { bits, describeGpu, normals } from "../support/gpu.ts";

const base = fileURLToPath(new URL("../fixtures/llama3-gqa-bf16", import.meta.url));
const tokenizer = fileURLToPath(new URL("../../models/demo", import.meta.url));

const layer = (index: number, seed: number, rank: number) => [
  pair(`model.layers.${index}.self_attn.q_proj`, rank, 128, 256, seed),
  pair(`model.layers.${index}.self_attn.v_proj`, rank, 128, 128, seed + 1),
  pair(`model.layers.${index}.self_attn.o_proj`, rank, 256, 128, seed + 2),
  pair(`model.layers.${index}.mlp.gate_proj`, rank, 128, 256, seed + 3),
  pair(`model.layers.${index}.mlp.down_proj`, rank, 256, 128, seed + 4),
];
const prompt = (length: number, seed: number) => Array.from({ length }, (_, i) => (i * 31 + seed * 17 + 3) % 320);
const sampling = { temperature: 0, topK: 0, topP: 1, minP: 0, seed: 0n };

describeGpu("adapters of requests", (device) => {
  let model: LanguageModel;
  const adapters = {
    one: new TemporaryAdapter({ pairs: [...layer(0, 1, 8), ...layer(1, 20, 4)] }),
    two: new TemporaryAdapter({ pairs: [...layer(0, 40, 3), pair("lm_head", 8, 128, 320, 60)] }),
    /** Of a larger rank than the others, and where they are not. */
    large: new TemporaryAdapter({ pairs: [pair("model.layers.1.mlp.up_proj", 40, 128, 256, 70)] }),
    /** With a bias where "one" has none. */
    biased: new TemporaryAdapter({
      pairs: layer(0, 100, 5).slice(0, 2),
      config: { lora_bias: true },
      tensors: Object.fromEntries(
        layer(0, 100, 5)
          .slice(0, 2)
          .map(({ module, outputs }, i) => [
            `${module}.lora_B.bias`,
            { shape: [outputs], data: Float32Array.from(normals(outputs, 110 + i), (v) => 0.3 * v) },
          ]),
      ),
    }),
    whole: new TemporaryAdapter({
      pairs: layer(1, 80, 8),
      tensors: {
        "lm_head.weight": { shape: [320, 128], data: Float32Array.from(normals(320 * 128, 90), (v) => 0.05 * v) },
      },
    }),
  };
  beforeAll(async () => {
    model = await LanguageModel.fromPretrained(base, { device, dtype: "float16" });
  });
  afterAll(() => {
    model?.dispose();
    for (const adapter of Object.values(adapters)) adapter[Symbol.dispose]();
  });

  // Seven such prompts fit into one pass on every device, so that none is read in two pieces, which round in another way.
  const request = (seed: number, adapter: string | null, length = 9): TokenRequest => ({
    promptIds: prompt(length, seed),
    sampling,
    adapter: model.adapterFor(adapter),
    maxNewTokens: 12,
    stopIds: new Set(),
  });
  async function answers(requests: readonly TokenRequest[]): Promise<number[][]> {
    const tokens: number[][] = requests.map(() => []);
    for await (const event of model.engine.run(requests)) tokens[event.request]!.push(event.tokenId);
    return tokens;
  }
  async function alone(seed: number, adapter: string | null): Promise<number[]> {
    return (await answers([request(seed, adapter)]))[0]!;
  }

  /** In a batch of equal requests: as many rows as beside others, so that products have the same kernels and round alike. */
  async function amongLikes(seed: number, adapter: string | null, count: number): Promise<number[]> {
    const all = await answers(Array.from({ length: count }, () => request(seed, adapter)));
    expect(new Set(all.map(String)).size).toBe(1);
    return all[0]!;
  }

  test("in one batch each request gets what it gets without the others", async () => {
    const before = await amongLikes(1, null, 5);
    await model.loadAdapter("one", adapters.one.directory);
    await model.loadAdapter("two", adapters.two.directory);
    await model.loadAdapter("whole", adapters.whole.directory);
    expect(model.adapters).toEqual(["one", "two", "whole"]);
    const choices = [null, "one", "two", "one", "whole", null];
    const together = await answers(choices.map((choice) => request(1, choice)));
    // The one with a head of its own is in a batch of its own.
    const beside = (choice: string | null, count: number) => amongLikes(1, choice, choice === "whole" ? 1 : count);
    for (const [i, choice] of choices.entries()) expect(together[i]).toEqual(await beside(choice, 5));
    // One prompt, four different answers; and without an adapter the one from before any was loaded.
    expect(new Set(together.map((tokens) => tokens.join())).size).toBe(4);
    expect(together[0]).toEqual(before);
    // Graphs of passes without a bias do not hold any more.
    await model.loadAdapter("biased", adapters.biased.directory);
    const mixed = await answers(["biased", ...choices].map((choice) => request(1, choice)));
    for (const [i, choice] of ["biased", ...choices].entries()) expect(mixed[i]).toEqual(await beside(choice, 6));
    expect(mixed.slice(1).map(String)).not.toContain(String(mixed[0]));
    model.unloadAdapter("biased");
  });

  // 192 rows: enough for the library of many rows, where there is one.
  test.each([40, 64])(
    "and the same bits, from a pass over prompts of several adapters, %i tokens each",
    async (length) => {
      const { network, engine } = model;
      const cache = new PagedCache(network, () => {});
      const hidden = async (choices: readonly (string | null)[], seeds: readonly number[]) => {
        const sequences = choices.map((choice, i) => ({
          ids: prompt(length, seeds[i]!),
          blocks: cache.open(),
          adapter: model.adapterFor(choice),
        }));
        using last = await prefill({ network, adapters: engine.adapters }, cache, sequences);
        for (const { blocks } of sequences) cache.close(blocks);
        return choices.map((_, i) => bits(last.select(0, i).cpu().data));
      };
      try {
        const mixed = await hidden(["one", null, "two"], [1, 2, 3]);
        // The same number of rows, so the same kernels of the base, beside other neighbours.
        const [one] = await hidden(["one", "one", "one"], [1, 5, 6]);
        const [, none] = await hidden([null, null, null], [7, 2, 8]);
        const [, , two] = await hidden([null, "one", "two"], [9, 10, 3]);
        expect(mixed).toEqual([one, none, two]);
      } finally {
        cache.dispose();
      }
    },
  );

  test("come and go while others generate", async () => {
    const [expected, none] = [await amongLikes(2, "one", 2), await amongLikes(2, null, 2)];
    const tokens: number[][] = [[], []];
    let step = 0;
    for await (const event of model.engine.run([request(2, "one"), request(2, null)])) {
      tokens[event.request]!.push(event.tokenId);
      step++;
      if (step === 4) await model.loadAdapter("large", adapters.large.directory);
      if (step === 8) model.unloadAdapter("one");
      if (step === 12) model.unloadAdapter("two");
    }
    expect(tokens).toEqual([expected, none]);
    expect(model.adapters).toEqual(["whole", "large"]);
    expect(() => model.adapterFor("one")).toThrow(/no adapter "one"; loaded are "whole", "large"/);
    const large = await amongLikes(2, "large", 2);
    expect(large.join() === none.join()).toBe(false);
    await model.loadAdapter("one", adapters.one.directory);
    expect(await amongLikes(2, "one", 2)).toEqual(expected);
    expect(await amongLikes(2, "large", 2)).toEqual(large);
  });

  test("give their memory back, and leave the network as it was", async () => {
    for (const name of [...model.adapters]) model.unloadAdapter(name);
    const expected = await alone(3, null);
    device.stream.synchronize();
    const held = device.memory.statistics().allocatedBytes;
    using embedding = new TemporaryAdapter({ embeddings: [pair("model.embed_tokens", 4, 320, 128, 1)] });
    await model.loadAdapter("one", adapters.one.directory);
    await model.loadAdapter("embedding", embedding.directory);
    model.unloadAdapter("embedding");
    expect(device.memory.statistics().allocatedBytes > held).toBe(true);
    model.unloadAdapter("one");
    expect(device.memory.statistics().allocatedBytes).toBe(held);
    expect(await alone(3, null)).toEqual(expected);
  });

  test("requests that no batch can mix are divided, and keep their numbers", async () => {
    await model.loadAdapter("whole", adapters.whole.directory);
    const requests = [null, "whole", null, "whole"].map((choice) => request(1, choice));
    const parts = divide(requests).map((part) => part.map(({ index }) => index));
    expect(parts).toEqual([
      [0, 2],
      [1, 3],
    ]);
    const many = Array.from({ length: 70 }, () => request(1, null));
    expect(divide(many).map((part) => part.length)).toEqual([64, 6]);
    model.unloadAdapter("whole");
  });

  test.each<[string, ConstructorParameters<typeof TemporaryAdapter>[0], new (...args: never[]) => Error, RegExp]>([
    [
      "another width",
      { pairs: [pair("model.layers.0.self_attn.q_proj", 8, 96, 256, 1)] },
      FormatError,
      /\[8, 96\], but the base model calls for \[8, 128\].*another base/,
    ],
    [
      "another height",
      { pairs: [pair("model.layers.0.self_attn.k_proj", 8, 128, 256, 1)] },
      FormatError,
      /\[256, 8\], but the base model calls for \[128, 8\]/,
    ],
    [
      "a layer that is not there",
      { pairs: [pair("model.layers.7.mlp.up_proj", 8, 128, 256, 1)] },
      UnsupportedError,
      /"model.layers.7.mlp.up_proj", but the base model has no such layer/,
    ],
    [
      "a module of another kind",
      { pairs: [pair("model.layers.0.mixer", 8, 128, 256, 1)] },
      UnsupportedError,
      /works on "model.layers.0.mixer"; llcuda applies adapters to/,
    ],
    [
      "a projection's factors at an embedding",
      { pairs: [pair("model.embed_tokens", 8, 128, 320, 1)] },
      FormatError,
      /embed_tokens is adapted as a projection, which it is not/,
    ],
    [
      "more tokens than the base",
      { tensors: { "lm_head.weight": { shape: [324, 128], data: new Float32Array(324 * 128) } } },
      FormatError,
      /\[324, 128\], but the base model calls for \[320, 128\]/,
    ],
    [
      "part of a stack trained whole",
      {
        tensors: { "model.layers.0.self_attn.q_proj.weight": { shape: [256, 128], data: new Float32Array(256 * 128) } },
      },
      UnsupportedError,
      /only by merging/,
    ],
    [
      "a B of zeros",
      {
        pairs: [{ ...pair("model.layers.0.self_attn.q_proj", 8, 128, 256, 1), b: new Float32Array(256 * 8).fill(-0) }],
      },
      FormatError,
      /changes nothing/,
    ],
    [
      "an alpha of zero",
      {
        pairs: [pair("model.layers.0.self_attn.q_proj", 8, 128, 256, 1)],
        config: { lora_alpha: 0, alpha_pattern: {} },
      },
      FormatError,
      /changes nothing/,
    ],
  ])("%s is refused, and leaves nothing behind", async (_, content, kind, message) => {
    using adapter = new TemporaryAdapter(content);
    const held = device.memory.statistics().allocatedBytes;
    for (const load of [
      () => model.loadAdapter("bad", adapter.directory),
      ...(message.source.includes("merging") ? [] : [() => model.mergeAdapter(adapter.directory)]),
    ]) {
      const error = await load().then(
        () => undefined,
        (reason: unknown) => reason,
      );
      expect(error).toBeInstanceOf(kind);
      expect((error as Error).message).toMatch(message);
    }
    expect(device.memory.statistics().allocatedBytes).toBe(held);
    expect(model.adapters).toEqual([]);
  });

  test("a head that is the base's own changes nothing", async () => {
    using weight = headOf(model);
    const data = Float32Array.from(weight.toArray() as Float32Array);
    using adapter = new TemporaryAdapter({ tensors: { "lm_head.weight": { shape: [320, 128], data } } });
    await expect(model.loadAdapter("same", adapter.directory)).rejects.toThrow(/changes nothing/);
  });

  test("names and choices that do not fit are refused", async () => {
    await expect(model.loadAdapter("", adapters.one.directory)).rejects.toThrow(ArgumentError);
    await model.loadAdapter("one", adapters.one.directory);
    await expect(model.loadAdapter("one", adapters.two.directory)).rejects.toThrow(/"one" already; unload it first/);
    await expect(model.generate([1, 2], { adapter: "two" })).rejects.toThrow(/no adapter "two"; loaded are "one"/);
    expect(() => model.unloadAdapter("two")).toThrow(ArgumentError);
    const stale = model.adapterFor("one");
    model.unloadAdapter("one");
    await expect(model.engine.logits([1], stale)).rejects.toThrow(/"one" has been unloaded/);
  });

  test("the default, the base and a list of choices, by name", async () => {
    using chat = await LanguageModel.fromPretrained(tokenizer, { device, dtype: "float16" });
    using adapter = new TemporaryAdapter({
      pairs: [0, 1, 2, 3].map((i) => pair(`model.layers.${i}.mlp.down_proj`, 8, 512, 256, i)),
      config: { lora_alpha: 400, alpha_pattern: {} },
    });
    await chat.loadAdapter("own", join(adapter.directory));
    const options = { maxNewTokens: 4, temperature: 0 } as const;
    const [none, own] = await chat.generateAll(["Once", "Once"], { ...options, adapter: [null, "own"] });
    expect(own!.tokenIds.join() === none!.tokenIds.join()).toBe(false);
    expect((await chat.generate("Once", options)).tokenIds).toEqual(none!.tokenIds);
    chat.defaultAdapter = "own";
    expect((await chat.generate("Once", options)).tokenIds).toEqual(own!.tokenIds);
    expect((await chat.generate("Once", { ...options, adapter: null })).tokenIds).toEqual(none!.tokenIds);
    await expect(chat.generateAll(["a", "b"], { adapter: ["own"] })).rejects.toThrow(/1 choices for 2 prompts/);
    chat.unloadAdapter("own");
    expect(chat.defaultAdapter).toBe(null);
  });
});

/** A copy of the head's weight. */
function headOf(model: LanguageModel) {
  const [, head] = [...model.network.namedParameters()].find(([name]) => name === "head.weight")!;
  return head.to("float32");
}
