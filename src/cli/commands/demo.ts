import { Command } from "commander";
import type { LanguageModel } from "../../engine/language-model.ts";
import { interruptible } from "../errors.ts";
import { addModelOptions, loadModel, type ModelFlags } from "../options.ts";
import { dim } from "../terminal.ts";

/** One of each kind that the demonstration model was trained on. */
const questions = [
  "Who are you?",
  "What is 41 + 17?",
  "What is the capital of Poland?",
  "Spell the word quartz.",
  "Sort 52, 47, 39.",
  "Reverse the word walnut.",
];

export function demoCommand(): Command {
  const command = new Command("demo").description(
    "let the demonstration model answer a few questions, then yours; npm start runs this",
  );
  return addModelOptions(command).action(run);
}

async function run(flags: ModelFlags): Promise<void> {
  using model = await interruptible((signal) => loadModel("demo", flags, signal));
  const { device, network } = model;
  process.stdout.write(
    `${dim(`demonstration model, ${(network.parameterCount / 1e6).toFixed(1)} million parameters, ${network.dtype.name}, on ${device.name} (${device.attributes.name})`)}\n`,
  );
  await interruptible(async (signal) => {
    let tokens = 0;
    const begin = performance.now();
    for (const question of questions) tokens += await answer(model, question, signal);
    const rate = tokens / ((performance.now() - begin) / 1000);
    process.stdout.write(`${dim(`${tokens} tokens, ${rate.toFixed(0)} tok/s`)}\n`);
  });
  if (!process.stdin.isTTY) return;
  const { Conversation } = await import("../conversation.ts");
  await new Conversation(model, { temperature: 0 }).run();
}

async function answer(model: LanguageModel, question: string, signal: AbortSignal): Promise<number> {
  process.stdout.write(`\n> ${question}\n`);
  let tokens = 0;
  for await (const chunk of model.stream([{ role: "user", content: question }], { temperature: 0, signal })) {
    process.stdout.write(chunk.text);
    tokens++;
  }
  process.stdout.write("\n");
  return tokens;
}
