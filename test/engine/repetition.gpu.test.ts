import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { LanguageModel } from "../../src/engine/language-model.ts";
import { describeGpu } from "../support/gpu.ts";

const checkpoint = fileURLToPath(new URL("../fixtures/qwen2-bias", import.meta.url));

describeGpu("repetition penalty in a batch", (device) => {
  test("each row's own, over its prompt and what it drew, also when decoding greedily", async () => {
    using model = await LanguageModel.fromPretrained(checkpoint, { device, dtype: "float32" });
    const vocab = model.network.vocabSize;
    const rows = [
      { prompt: [5, 9, 200, 5, 31], penalty: 0.2 }, // below 1 it rewards, which changes an answer that repeats nothing
      { prompt: [5, 9, 200, 5, 31], penalty: 1 },
      { prompt: [64, 77, 3], penalty: 1.2 },
    ];
    const answers: number[][] = rows.map(() => []);
    // Twice: the second batch finds the bits of the first in its memory.
    for (let run = 0; run < 2; run++) {
      for (const answer of answers) answer.length = 0;
      const requests = rows.map(({ prompt, penalty }) => ({
        promptIds: prompt,
        sampling: { temperature: 0, topK: 0, topP: 1, minP: 0, seed: 0n, repetitionPenalty: penalty },
        maxNewTokens: 8,
        stopIds: new Set<number>(),
      }));
      for await (const event of model.engine.run(requests)) answers[event.request]!.push(event.tokenId);
    }
    for (const [i, { prompt, penalty }] of rows.entries()) {
      const sequence = [...prompt];
      for (let n = 0; n < 8; n++) {
        using tensor = await model.logits(sequence);
        const last = Array.from(tensor.toArray().slice(-vocab), Number).map((l, v) =>
          sequence.includes(v) ? (l > 0 ? l / penalty : l * penalty) : l,
        );
        sequence.push(last.indexOf(Math.max(...last)));
      }
      expect(answers[i]).toEqual(sequence.slice(prompt.length));
    }
    expect(answers[0]!.join() === answers[1]!.join()).toBe(false);
  });
});
