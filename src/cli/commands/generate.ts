import { readFileSync } from "node:fs";
import { Command } from "commander";
import { ArgumentError } from "../../base/errors.ts";
import type { GenerateOptions } from "../../engine/generate-options.ts";
import type { LanguageModel, Prompt } from "../../engine/language-model.ts";
import { interruptible } from "../errors.ts";
import {
  addAdapterOptions,
  addModelOptions,
  addSamplingOptions,
  examples,
  findFiles,
  generateOptions,
  loadModel,
  type ModelFlags,
  type SamplingFlags,
} from "../options.ts";
import { dim } from "../terminal.ts";

interface Flags extends ModelFlags, SamplingFlags {
  readonly prompt?: string;
  readonly chat?: boolean;
  readonly system?: string;
  readonly stats?: boolean;
}

export function generateCommand(): Command {
  const command = new Command("generate")
    .description("continue a prompt and print nothing but the answer")
    .argument("<model>", "directory of a checkpoint, or demo")
    .option("-p, --prompt <text>", "the prompt; without it, or as -, standard input is read")
    .option("--chat", "put the prompt into the model's chat template, as a user's message")
    .option("--system <text>", "a system message before it; implies --chat")
    .option("--stats", "print tokens and speed on standard error afterwards")
    .addHelpText(
      "after",
      examples(
        'generate demo --chat --temperature 0 --prompt "What is 41 + 17?"',
        "generate ./Llama-3.2-1B -n 100 < story.txt",
      ),
    );
  return addAdapterOptions(addSamplingOptions(addModelOptions(command))).action(run);
}

async function run(name: string, flags: Flags): Promise<void> {
  const options = generateOptions(flags);
  const { PretrainedTokenizer } = await import("../../models/auto-tokenizer.ts");
  const tokenizer = new PretrainedTokenizer(await findFiles(name, flags));
  if (isChat(flags)) tokenizer.chatTemplate; // throws where the model has none
  const text = flags.prompt === undefined || flags.prompt === "-" ? readStandardInput() : flags.prompt;
  await interruptible(async (signal) => {
    using model = await loadModel(name, flags, signal, tokenizer);
    await print(model, toPrompt(text, flags), { ...options, signal }, flags.stats === true);
  });
}

async function print(model: LanguageModel, prompt: Prompt, options: GenerateOptions, stats: boolean): Promise<void> {
  const begin = performance.now();
  const answer = model.stream(prompt, options);
  let step = await answer.next();
  const first = performance.now();
  for (; !step.done; step = await answer.next()) process.stdout.write(step.value.text);
  process.stdout.write("\n");
  if (!stats) return;
  const { promptTokens, tokenIds, finishReason } = step.value;
  const rate = (tokenIds.length - 1) / ((performance.now() - first) / 1000);
  process.stderr.write(
    `${dim(`${promptTokens} prompt tokens, first token after ${(first - begin).toFixed(0)} ms, ${tokenIds.length} tokens at ${rate.toFixed(1)} tok/s, ended by ${finishReason}`, process.stderr)}\n`,
  );
}

function isChat(flags: Flags): boolean {
  return flags.chat === true || flags.system !== undefined;
}

function toPrompt(text: string, flags: Flags): Prompt {
  if (!isChat(flags)) return text;
  const system = flags.system === undefined ? [] : [{ role: "system", content: flags.system }];
  return [...system, { role: "user", content: text }];
}

function readStandardInput(): string {
  if (process.stdin.isTTY) {
    throw new ArgumentError("generate: there is no prompt; pass --prompt TEXT, or pipe text in");
  }
  // What echo or an editor puts after the last line is no part of the prompt.
  return readFileSync(0, "utf8").replace(/\r?\n$/, "");
}
