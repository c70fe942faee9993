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
    // Until the first token kernels are loaded and translated; that is not the speed of what follows.
    let firstAt = 0;
    const begin = performance.now();
    for (const question of questions) {
      await answer(model, question, signal, () => {
        if (tokens++ === 0) firstAt = performance.now();
      });
    }
    const rate = (tokens - 1) / ((performance.now() - firstAt) / 1000);
    const wait = ((firstAt - begin) / 1000).toFixed(2);
    process.stdout.write(`${dim(`${tokens} tokens: the first after ${wait} s, then ${rate.toFixed(0)} tok/s`)}\n`);
  });
  if (!process.stdin.isTTY) return;
  const { Conversation } = await import("../conversation.ts");
  await new Conversation(model, { temperature: 0 }).run();
}

async function answer(model: LanguageModel, question: string, signal: AbortSignal, onToken: () => void): Promise<void> {
  process.stdout.write(`\n> ${question}\n`);
  for await (const chunk of model.stream([{ role: "user", content: question }], { temperature: 0, signal })) {
    onToken();
    process.stdout.write(chunk.text);
  }
  process.stdout.write("\n");
}
