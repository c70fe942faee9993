import { type Command, InvalidArgumentError } from "commander";
import { checkGenerateOptions, type GenerateOptions } from "../engine/generate-options.ts";
import type { LanguageModel } from "../engine/language-model.ts";
import type { ModelFiles } from "../formats/model-files/model-files.ts";
import type { PretrainedTokenizer } from "../models/auto-tokenizer.ts";
import { ProgressBar } from "./terminal.ts";

export interface ModelFlags {
  readonly device?: string;
  readonly dtype?: string;
  readonly rotaryDtype?: string;
  readonly base?: string;
  readonly adapter?: string;
  readonly merge?: boolean;
}

export function addModelOptions(command: Command): Command {
  return command
    .optionsGroup("Where and how it computes:")
    .option("-d, --device <name>", "cuda:0, cuda:1, …, sim (default: LLCUDA_DEVICE, else the first GPU, else sim)")
    .option("--dtype <type>", "float32, float16 or bfloat16 (default: as the checkpoint is stored)")
    .optionsGroup("Options:");
}

export function addAdapterOptions(command: Command): Command {
  return command
    .optionsGroup("LoRA adapters:")
    .option("--adapter <dir>", "a PEFT adapter to put on the model (of two, the second)")
    .option("--base <model>", "the base, when <model> is an adapter's directory (default: what its config names)")
    .option("--merge", "add the adapter to the weights instead of applying it beside them")
    .optionsGroup("Options:");
}

export interface SamplingFlags {
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly repetitionPenalty?: number;
  readonly seed?: bigint;
  readonly maxNewTokens?: number;
  readonly stop?: string[];
}

export function addSamplingOptions(command: Command): Command {
  return command
    .optionsGroup("What is drawn (default: what the model's generation_config.json says, else greedy):")
    .option("-t, --temperature <number>", "0 takes the most probable token each time", number)
    .option("--top-k <count>", "keep this many most probable tokens; 0 keeps all", number)
    .option("--top-p <number>", "keep the most probable tokens up to this probability", number)
    .option("--min-p <number>", "keep tokens at least this fraction as probable as the best", number)
    .option("--repetition-penalty <number>", "above 1 makes tokens that occurred less likely; 1 is off", number)
    .option("-s, --seed <number>", "makes sampling repeatable", wholeNumber)
    .optionsGroup("Where it ends:")
    .option("-n, --max-new-tokens <count>", "after this many tokens (default: when the context is full)", number)
    .option("--stop <text>", "before this text; may be given several times", collect)
    .optionsGroup("Options:");
}

/** Throws ArgumentError for a value out of range, so that it shows before a model is loaded. */
export function generateOptions(flags: SamplingFlags): GenerateOptions {
  const { temperature, topK, topP, minP, repetitionPenalty, seed, maxNewTokens, stop } = flags;
  const options = { temperature, topK, topP, minP, repetitionPenalty, seed, maxNewTokens, stop };
  checkGenerateOptions(options);
  return options;
}

/** For commands that open devices: reading the simulator takes a hundredth of a second or two, which others need not wait. */
export async function addSoftwareDevices(): Promise<void> {
  const { registerSim } = await import("../sim/register.ts");
  registerSim();
}

/** The files of the model that is asked for, before anything is loaded: its base's and its adapter's. */
export async function findFiles(name: string, { adapter, base }: ModelFlags): Promise<ModelFiles> {
  const { findModelWithAdapter } = await import("../models/find-model.ts");
  return findModelWithAdapter(name, { adapter, base });
}

/** Loads a model with a progress bar. */
export async function loadModel(
  name: string,
  flags: ModelFlags,
  signal: AbortSignal,
  tokenizer?: PretrainedTokenizer,
): Promise<LanguageModel> {
  const [{ LanguageModel }] = await Promise.all([import("../engine/language-model.ts"), addSoftwareDevices()]);
  const bar = new ProgressBar("loading");
  try {
    return await LanguageModel.fromPretrained(name, {
      device: flags.device,
      dtype: flags.dtype,
      rotaryDtype: flags.rotaryDtype,
      base: flags.base,
      adapter: flags.adapter,
      merge: flags.merge,
      signal,
      tokenizer,
      onProgress: ({ doneBytes, totalBytes }) => bar.update(doneBytes, totalBytes),
    });
  } finally {
    bar.end();
  }
}

export function number(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || Number.isNaN(value)) throw new InvalidArgumentError("it must be a number");
  return value;
}

function wholeNumber(text: string): bigint {
  if (!/^-?\d+$/.test(text)) throw new InvalidArgumentError("it must be a whole number");
  return BigInt(text);
}

export function collect(text: string, before: readonly string[] = []): string[] {
  return [...before, text];
}

/** What help shows below the options. */
export function examples(...commands: readonly string[]): string {
  return `\n${commands.length === 1 ? "Example" : "Examples"}:\n${commands.map((c) => `  llcuda ${c}\n`).join("")}`;
}
