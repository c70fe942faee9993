/** What quantization leaves of the trained model: right answers and perplexity, as a user measures them with bench eval. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { chatPerplexity } from "../../bench/support/demo-chats.ts";
import { withWeights } from "../../bench/support/weight-types.ts";
import { LanguageModel } from "../../src/engine/language-model.ts";
import { describeGpu } from "../support/gpu.ts";

const questions = JSON.parse(readFileSync(new URL("../fixtures/demo-chat/eval.json", import.meta.url), "utf8")) as {
  readonly question: string;
  readonly answer: string;
}[];

describeGpu("the demonstration model in quantized types", (device) => {
  const scratch = mkdtempSync(join(tmpdir(), "llcuda-answers-"));
  afterAll(() => rmSync(scratch, { recursive: true, force: true }));

  // The software device answers a question in a second or two, and has no time for perplexities.
  const isSim = device?.api.kind === "sim";
  const asked = isSim ? questions.filter((_, i) => i % 19 === 0) : questions;
  const types = isSim
    ? ["nf4-dq", "q4_k_m"]
    : ["load-nf4", "nf4", "nf4-dq", "q8_0", "q4_0", "q5_k_m", "q4_k_m", "q3_k_m"];
  const dtypes = isSim ? ["float16"] : ["float32", "float16", "bfloat16"];

  test.each(types.flatMap((type) => dtypes.map((dtype) => [type, dtype] as const)))("%s in %s", async (type, dtype) => {
    const { path, quantization } = await withWeights("demo", type, mkdtempSync(join(scratch, "of-")), device.name);
    using model = await LanguageModel.fromPretrained(path, { device, dtype, quantization });
    const prompts = asked.map(({ question }) => [{ role: "user", content: question }]);
    const answers = await model.generateAll(prompts, { temperature: 0 });
    const wrong = answers.flatMap(({ text }, i) =>
      text === asked[i]!.answer ? [] : [`${asked[i]!.question} ${text}`],
    );
    // transformers answers all 224 from NF4. Two may be lost: so close are some choices.
    expect(wrong.slice(isSim ? 0 : 2)).toEqual([]);
    if (isSim) return;
    // The model's own is 1.0806, with bitsandbytes' NF4 1.0807, and ours are from 1.0805 to 1.0808.
    expect((await chatPerplexity(model))!.perplexity).toBeLessThan(1.082);
  });
});
