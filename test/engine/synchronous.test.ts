import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LanguageModel } from "../../src/engine/language-model.ts";
import { registerSim } from "../../src/sim/register.ts";

describe("a device whose work has finished when the call returns", () => {
  let model: LanguageModel;
  beforeAll(async () => {
    registerSim();
    model = await LanguageModel.fromPretrained("demo", { device: "sim" });
  });
  afterAll(() => {
    const { device } = model;
    model.dispose();
    expect(device.memory.statistics().requestedBytes).toBe(0);
  });

  test("is given no step that an answer does not need", async () => {
    const before = model.engine.statistics.decodeSteps;
    const { tokenIds, finishReason } = await model.generate([{ role: "user", content: "What is 41 + 17?" }], {
      temperature: 0,
    });
    expect(finishReason).toBe("stop");
    // The first token comes from the prompt.
    expect(model.engine.statistics.decodeSteps - before).toBe(tokenIds.length - 1);
  });

  test("lets an abort through between two parts of a long prompt", async () => {
    const before = model.engine.statistics.decodeSteps;
    const controller = new AbortController();
    const answer = model.generate(
      Array.from({ length: 200 }, (_, i) => i),
      { signal: controller.signal, temperature: 0 },
    );
    setImmediate(() => controller.abort(new Error("enough")));
    await expect(answer).rejects.toThrow("enough");
    expect(model.engine.statistics.decodeSteps).toBe(before);
  });
});
