import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ArgumentError, FileError } from "../src/base/errors.ts";
import { LanguageModel } from "../src/engine/language-model.ts";
import { defineBench, positiveInteger } from "./support/bench.ts";
import { chatPerplexity } from "./support/demo-chats.ts";
import type { Row } from "./support/table.ts";
import { weightTypes, withWeights } from "./support/weight-types.ts";

const questionsFile = fileURLToPath(new URL("../test/fixtures/demo-chat/eval.json", import.meta.url));

interface Question {
  readonly question: string;
  /** The right answer, and what the model itself answers in float32, where the file has both. */
  readonly answer?: string;
  readonly expected?: string;
  readonly greedy?: string;
}

/** Answers to all prompts, one at a time or in one batch. */
const ways: Readonly<Record<string, (model: LanguageModel, prompts: readonly string[]) => Promise<string[]>>> = {
  single: async (model, prompts) => {
    const answers: string[] = [];
    for (const prompt of prompts) answers.push((await model.generate(asChat(prompt), { temperature: 0 })).text);
    return answers;
  },
  batched: async (model, prompts) =>
    (await model.generateAll(prompts.map(asChat), { temperature: 0 })).map(({ text }) => text),
};

const asChat = (content: string) => [{ role: "user", content }];

/**
 * How many of the demonstration model's 224 questions it answers exactly, one at a time and in batches, and its perplexity on 64 chats;
 * for each type of weights that is asked for. With an adapter the questions are those of its eval.json, and answers are also counted that
 * equal its own float32 answers.
 */
export const bench = defineBench({
  name: "eval",
  options: {
    model: { help: "a model that speaks its chat template", default: "demo" },
    weights: {
      help: "comma-separated: stored, load-nf4, load-fp4, what `llcuda quantize --to` takes, or all",
      default: "stored",
    },
    dtypes: { help: "comma-separated", default: "float32,float16,bfloat16" },
    adapter: { help: "a LoRA adapter on it, with an eval.json", default: "" },
    merge: { help: "yes merges the adapter", default: "no" },
    ways: { help: "comma-separated: single, batched", default: "single,batched" },
    questions: { help: "ask only this many", default: "" },
  },
  async measure({ device, table, note }, options) {
    const adapter = options.adapter || undefined;
    const questions = readQuestions(adapter, options.questions);
    const prompts = questions.map(({ question }) => question);
    const chosen = options.ways.split(",");
    const unknown = chosen.find((way) => !Object.hasOwn(ways, way));
    if (unknown !== undefined)
      throw new ArgumentError(`--ways: "${unknown}" is none of ${Object.keys(ways).join(", ")}`);
    const scratch = mkdtempSync(join(tmpdir(), "llcuda-eval-"));
    const rows: Row[] = [];
    try {
      for (const weights of weightTypes(options.weights)) {
        const { path, quantization } = await withWeights(options.model, weights, scratch, device.name);
        for (const dtype of options.dtypes.split(",")) {
          using model = await LanguageModel.fromPretrained(path, {
            device,
            dtype,
            quantization,
            adapter,
            merge: options.merge === "yes",
          });
          const row: Record<string, string | number> = { weights, dtype, questions: questions.length };
          for (const way of chosen) {
            const begin = performance.now();
            const answers = await ways[way]!(model, prompts);
            const seconds = (performance.now() - begin) / 1000;
            const count = (key: (question: Question) => string | undefined) =>
              answers.filter((text, i) => text === key(questions[i]!)).length;
            if (adapter !== undefined) row[`equal, ${way}`] = count(({ greedy }) => greedy);
            row[`right, ${way}`] = count(rightAnswer);
            row[`seconds, ${way}`] = seconds;
            if (way === chosen[0]) {
              for (const [i, text] of answers.entries()) {
                const { question, greedy, answer } = questions[i]!;
                if (text !== (greedy ?? answer)) note(`${weights}, ${dtype}: ${question} ${JSON.stringify(text)}`);
              }
            }
          }
          const chats = adapter === undefined ? await chatPerplexity(model) : undefined;
          // As text: a table's three digits would not tell types apart.
          if (chats) row.perplexity = chats.perplexity.toFixed(5);
          rows.push(row);
        }
      }
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
    table(`eval.json, ${options.model}${adapter === undefined ? "" : ` with ${adapter}`}, greedy`, rows);
  },
});

const rightAnswer = ({ answer, expected }: Question) => answer ?? expected;

function readQuestions(adapter: string | undefined, limit: string): readonly Question[] {
  const file = adapter === undefined ? questionsFile : join(adapter, "eval.json");
  if (!existsSync(file)) throw new FileError(file, `${file}: eval needs the questions of a checkout or an adapter`);
  const questions = JSON.parse(readFileSync(file, "utf8")) as Question[];
  return limit === "" ? questions : questions.slice(0, positiveInteger("questions", limit));
}
