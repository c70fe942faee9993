import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { FileError } from "../src/base/errors.ts";
import { LanguageModel } from "../src/engine/language-model.ts";
import { defineBench } from "./support/bench.ts";
import type { Row } from "./support/table.ts";

const questionsFile = fileURLToPath(new URL("../test/fixtures/demo-chat/eval.json", import.meta.url));

/** How many of the demonstration model's 224 questions it answers exactly, one at a time and in batches. */
export const bench = defineBench({
  name: "eval",
  options: {
    model: { help: "a model that speaks its chat template", default: "demo" },
    dtypes: { help: "comma-separated", default: "float32,float16,bfloat16" },
  },
  async measure({ device, table, note }, options) {
    if (!existsSync(questionsFile)) throw new FileError(questionsFile, `${questionsFile}: eval needs a checkout`);
    const questions = JSON.parse(readFileSync(questionsFile, "utf8")) as { question: string; answer: string }[];
    const prompts = questions.map(({ question }) => [{ role: "user", content: question }]);
    const rows: Row[] = [];
    for (const dtype of options.dtypes.split(",")) {
      using model = await LanguageModel.fromPretrained(options.model, { device, dtype });
      const begin = performance.now();
      const single: string[] = [];
      for (const prompt of prompts) single.push((await model.generate(prompt, { temperature: 0 })).text);
      const middle = performance.now();
      const batched = (await model.generateAll(prompts, { temperature: 0 })).map((result) => result.text);
      const end = performance.now();
      const right = (answers: string[]) => answers.filter((text, i) => text === questions[i]!.answer).length;
      rows.push({
        dtype,
        questions: questions.length,
        right: right(single),
        seconds: (middle - begin) / 1000,
        "right, batched": right(batched),
        "seconds, batched": (end - middle) / 1000,
      });
      for (const [i, text] of single.entries()) {
        if (text !== questions[i]!.answer) note(`${dtype}: ${questions[i]!.question} ${JSON.stringify(text)}`);
      }
    }
    table(`eval.json, ${options.model}, greedy`, rows);
  },
});
