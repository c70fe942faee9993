import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { FileError } from "../src/base/errors.ts";
import { LanguageModel } from "../src/engine/language-model.ts";
import { defineBench } from "./support/bench.ts";
import type { Row } from "./support/table.ts";

const questionsFile = fileURLToPath(new URL("../test/fixtures/demo-chat/eval.json", import.meta.url));

interface Question {
  readonly question: string;
  /** The right answer, and what the model itself answers in float32, where the file has both. */
  readonly answer?: string;
  readonly expected?: string;
  readonly greedy?: string;
}

/**
 * How many of the demonstration model's 224 questions it answers exactly, one at a time and in batches. With an adapter the
 * questions are those of its eval.json, and answers are also counted that equal its own float32 answers.
 */
export const bench = defineBench({
  name: "eval",
  options: {
    model: { help: "a model that speaks its chat template", default: "demo" },
    adapter: { help: "a LoRA adapter on it, with an eval.json", default: "" },
    merge: { help: "yes merges the adapter", default: "no" },
    dtypes: { help: "comma-separated", default: "float32,float16,bfloat16" },
  },
  async measure({ device, table, note }, options) {
    const adapter = options.adapter || undefined;
    const file = adapter === undefined ? questionsFile : join(adapter, "eval.json");
    if (!existsSync(file)) throw new FileError(file, `${file}: eval needs the questions of a checkout or an adapter`);
    const questions = JSON.parse(readFileSync(file, "utf8")) as Question[];
    const rightAnswer = ({ answer, expected }: Question) => answer ?? expected;
    const equal = (answers: string[]) => answers.filter((text, i) => text === questions[i]!.greedy).length;
    const prompts = questions.map(({ question }) => [{ role: "user", content: question }]);
    const rows: Row[] = [];
    for (const dtype of options.dtypes.split(",")) {
      using model = await LanguageModel.fromPretrained(options.model, {
        device,
        dtype,
        adapter,
        merge: options.merge === "yes",
      });
      const begin = performance.now();
      const single: string[] = [];
      for (const prompt of prompts) single.push((await model.generate(prompt, { temperature: 0 })).text);
      const middle = performance.now();
      const batched = (await model.generateAll(prompts, { temperature: 0 })).map((result) => result.text);
      const end = performance.now();
      const right = (answers: string[]) => answers.filter((text, i) => text === rightAnswer(questions[i]!)).length;
      rows.push({
        dtype,
        questions: questions.length,
        ...(adapter !== undefined && { "equal to float32": equal(single), "equal, batched": equal(batched) }),
        right: right(single),
        seconds: (middle - begin) / 1000,
        "right, batched": right(batched),
        "seconds, batched": (end - middle) / 1000,
      });
      for (const [i, text] of single.entries()) {
        const wanted = questions[i]!.greedy ?? questions[i]!.answer;
        if (text !== wanted) note(`${dtype}: ${questions[i]!.question} ${JSON.stringify(text)}`);
      }
    }
    table(`eval.json, ${options.model}, greedy`, rows);
  },
});
