import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { mostDecodeBlocks } from "../../src/engine/cache-plan.ts";
import { Engine } from "../../src/engine/engine.ts";
import { LanguageModel } from "../../src/engine/language-model.ts";
import { PagedCache } from "../../src/engine/paged-cache.ts";
import { prefill } from "../../src/engine/prefill.ts";
import type { TokenRequest } from "../../src/engine/request.ts";
import type { CausalNetwork } from "../../src/models/network.ts";
import { kvBytesPerToken } from "../../src/nn/cache-groups.ts";
import { AdapterSet } from "../../src/nn/lora/adapter-set.ts";
import { describeGpu, relativeL2 } from "../support/gpu.ts";

const window = 32;
/** Shorter than the window, as long, and beyond it and a pass of the software device. */
const promptLengths = [9, 32, 100];
/** Longer than the window: the shortest prompt gives back its first block, too, and all of them use blocks again. */
const newTokens = 40;

const prompt = (length: number, seed: number) => Array.from({ length }, (_, i) => (i * 7919 + seed * 104_729) % 320);
const greedy = (promptIds: readonly number[]): TokenRequest => ({
  promptIds,
  sampling: { temperature: 0, topK: 0, topP: 1, minP: 0, seed: 0n },
  maxNewTokens: newTokens,
  stopIds: new Set(),
});

async function continuations(engine: Engine, prompts: readonly (readonly number[])[]): Promise<number[][]> {
  const rows: number[][] = prompts.map(() => []);
  for await (const { request, tokenId } of engine.run(prompts.map(greedy))) rows[request]!.push(tokenId);
  return rows;
}

/** How far the token that was taken lies below the best one, at worst, with all of the sequence in one pass. */
async function worstChoice(engine: Engine, promptIds: readonly number[], answer: readonly number[]): Promise<number> {
  const ids = [...promptIds, ...answer];
  using logits = await engine.logits(ids.slice(0, -1));
  const vocab = logits.shape[1]!;
  const values = logits.toArray() as Float32Array;
  return Math.max(
    ...answer.map((token, i) => {
      const row = values.subarray((promptIds.length + i - 1) * vocab, (promptIds.length + i) * vocab);
      return row.reduce((best, v) => Math.max(best, v), -Infinity) - row[token]!;
    }),
  );
}

for (const [name, sliding, all] of [
  ["mistral-sliding", 2, 0],
  ["gemma3-text", 6, 1],
] as const) {
  describeGpu(`a cache that keeps only windows: ${name}`, (device) => {
    const directory = fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));
    let model: LanguageModel;
    let network: CausalNetwork;
    beforeAll(async () => {
      model = await LanguageModel.fromPretrained(directory, { device, dtype: "float32" });
      network = model.network;
    });
    afterAll(() => model?.dispose());

    test("generates what a pass over everything would, one sequence or several", async () => {
      using engine = new Engine(network);
      const prompts = promptLengths.map(prompt);
      const together = await continuations(engine, prompts);
      for (const [i, promptIds] of prompts.entries()) {
        expect(together[i]!.length).toBe(newTokens);
        // Logits of both ways differ by rounding, 1e-5 at most; a key too many or too few moves them by a tenth and more.
        expect(await worstChoice(engine, promptIds, together[i]!)).toBeLessThan(1e-3);
      }
      expect((await continuations(engine, [prompts[2]!]))[0]).toEqual(together[2]);
    });

    test("holds no more than the windows and what sees everything", async () => {
      using engine = new Engine(network);
      await continuations(engine, [prompt(20, 1), prompt(28, 2)]);
      const slidingBytes = kvBytesPerToken(network.cacheShape, sliding) * 16 * 2 * mostDecodeBlocks(window);
      const fullBytes = kvBytesPerToken(network.cacheShape, all) * 4096;
      expect(engine.cacheBytes).toBe(slidingBytes + fullBytes);
    });

    test("gives the same hidden states whatever the passes, and takes back every block", async () => {
      const cache = new PagedCache(network, () => {});
      const ids = promptLengths.map((length, i) => prompt(length, i));
      const run = async (limit: number) => {
        const sequences = ids.map((own) => ({ ids: own, blocks: cache.open() }));
        using last = await prefill({ network, adapters: new AdapterSet(network) }, cache, sequences, { limit });
        for (const { blocks } of sequences) {
          for (const [group, { heldBlocks }] of blocks.tables.entries()) {
            if (cache.groups[group]!.window > 0) expect(heldBlocks <= mostDecodeBlocks(window)).toBe(true);
          }
          cache.close(blocks);
        }
        return Float64Array.from(last.toArray() as Float32Array);
      };
      try {
        const whole = await run(10_000);
        for (const limit of [7, 40]) expect(relativeL2(await run(limit), whole)).toBeLessThan(1e-5);
        const grown = cache.sizeBytes;
        await run(10_000);
        expect(cache.sizeBytes).toBe(grown);
      } finally {
        cache.dispose();
      }
    });
  });
}
