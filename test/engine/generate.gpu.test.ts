import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ArgumentError, ContextLengthError } from "../../src/base/errors.ts";
import { LanguageModel } from "../../src/engine/language-model.ts";
import { describeGpu } from "../support/gpu.ts";

const questions = JSON.parse(readFileSync(new URL("../fixtures/demo-chat/eval.json", import.meta.url), "utf8")) as {
  question: string;
  answer: string;
}[];
const chat = (content: string) => [{ role: "user", content }];

describeGpu("the demonstration model", (device) => {
  let model: LanguageModel;
  beforeAll(async () => {
    model = await LanguageModel.fromPretrained("demo", { device, dtype: "float16" });
  });
  afterAll(() => model?.dispose());

  test("answers every question of eval.json, one at a time", async () => {
    const wrong: string[] = [];
    for (const { question, answer } of questions) {
      const { text } = await model.generate(chat(question), { temperature: 0 });
      if (text !== answer) wrong.push(`${question} ${text}`);
    }
    expect(wrong).toEqual([]);
  });

  test("answers them in batches, too", async () => {
    const results = await model.generateAll(
      questions.map((q) => chat(q.question)),
      { temperature: 0 },
    );
    const wrong = results.filter((r, i) => r.text !== questions[i]!.answer);
    expect(wrong.map((r) => r.text)).toEqual([]);
  });

  test("streams what generate returns", async () => {
    let text = "";
    for await (const chunk of model.stream(chat("Count from 64 to 73."), { temperature: 0 })) text += chunk.text;
    expect(text).toBe("64, 65, 66, 67, 68, 69, 70, 71, 72, 73");
  });

  test("ends at a stop string, wherever tokens end", async () => {
    const result = await model.generate(chat("Count from 64 to 73."), { temperature: 0, stop: ["7, 6", "nothing"] });
    expect(result.text).toBe("64, 65, 66, 6");
    expect(result.finishReason).toBe("stop");
    expect(result.stopString).toBe("7, 6");
  });

  test("ends after maxNewTokens", async () => {
    for (const maxNewTokens of [1, 2, 3, 5]) {
      const result = await model.generate(chat("Count from 64 to 73."), { temperature: 0, maxNewTokens });
      expect(result.tokenIds.length).toBe(maxNewTokens);
      expect(result.finishReason).toBe("length");
    }
  });

  test("repeats itself for one seed, and not for others", async () => {
    const ask = async (seed: number) =>
      (await model.generate("Once", { temperature: 1.5, topP: 1, seed, maxNewTokens: 24, ignoreEos: true })).tokenIds;
    const [a, b, c] = [await ask(1), await ask(1), await ask(2)];
    expect(a).toEqual(b);
    expect(a.join() === c.join()).toBe(false);
  });

  test("fills its context and says that it did", async () => {
    const result = await model.generate("Once", { temperature: 0, ignoreEos: true });
    expect(result.promptTokens + result.tokenIds.length).toBe(model.network.contextLength);
    expect(result.finishReason).toBe("length");
  });

  test("refuses a prompt that does not fit, an empty one, and a bad option", async () => {
    await expect(model.generate("word ".repeat(3000))).rejects.toThrow(ContextLengthError);
    await expect(model.generate([])).rejects.toThrow(ArgumentError);
    await expect(model.generate([999_999])).rejects.toThrow("token id 999999");
    await expect(model.generate("a", { temperature: Number.NaN })).rejects.toThrow("temperature");
    await expect(model.generate("a", { maxNewTokens: 0 })).rejects.toThrow("maxNewTokens");
  });

  test("stops when aborted, and goes on to the next", async () => {
    const controller = new AbortController();
    const seen: string[] = [];
    const run = async () => {
      for await (const chunk of model.stream("Once", { temperature: 0, ignoreEos: true, signal: controller.signal })) {
        seen.push(chunk.text);
        if (seen.length === 5) controller.abort();
      }
    };
    await expect(run()).rejects.toThrow("abort");
    expect(seen.length).toBe(5);
    expect((await model.generate(chat("What is 41 + 17?"), { temperature: 0 })).text).toBe("41 + 17 = 58");
  });

  test("gives back every cache block and buffer, however an answer ends", async () => {
    const settle = async () => {
      await model.generate(chat("What is 41 + 17?"), { temperature: 0 });
      device.synchronize();
      return device.memory.statistics().liveBuffers;
    };
    const before = await settle();
    for (let i = 0; i < 20; i++) {
      for await (const _ of model.stream("Once", { temperature: 1, seed: i, ignoreEos: true })) if (i % 2) break;
      await expect(model.generate("word ".repeat(3000))).rejects.toThrow(ContextLengthError);
    }
    expect(await settle()).toBe(before);
  });

  test("serves calls that overlap, each with its own answer", async () => {
    const asked = questions.slice(0, 6);
    const answers = await Promise.all(asked.map((q) => model.generate(chat(q.question), { temperature: 0 })));
    expect(answers.map((a) => a.text)).toEqual(asked.map((q) => q.answer));
  });
});
