import { type Command, InvalidArgumentError } from "commander";
import { type GenerateOptions, LanguageModel } from "../engine/language-model.ts";
import { ProgressBar } from "./terminal.ts";

export interface ModelFlags {
  readonly device?: string;
  readonly dtype?: string;
  readonly rotaryDtype?: string;
}

export function addModelOptions(command: Command): Command {
  return command
    .option("-d, --device <name>", "cuda:0, cuda:1, … (default: LLCUDA_DEVICE, else the first GPU)")
    .option("--dtype <type>", "float32, float16 or bfloat16 (default: as the checkpoint is stored)");
}

export interface SamplingFlags {
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly seed?: bigint;
  readonly maxNewTokens?: number;
  readonly stop?: string[];
}

export function addSamplingOptions(command: Command): Command {
  return command
    .option("-t, --temperature <number>", "0 takes the most probable token each time", number)
    .option("--top-k <count>", "keep the most probable tokens; 0 keeps all", number)
    .option("--top-p <number>", "keep the most probable tokens up to this probability", number)
    .option("--min-p <number>", "keep tokens at least this fraction as probable as the best", number)
    .option("-s, --seed <number>", "makes sampling repeatable", wholeNumber)
    .option("-n, --max-new-tokens <count>", "end the answer after this many tokens", number)
    .option("--stop <text...>", "end the answer at any of these texts");
}

export function generateOptions(flags: SamplingFlags, signal: AbortSignal): GenerateOptions {
  const { temperature, topK, topP, minP, seed, maxNewTokens, stop } = flags;
  return {
    signal,
    ...(temperature !== undefined && { temperature }),
    ...(topK !== undefined && { topK }),
    ...(topP !== undefined && { topP }),
    ...(minP !== undefined && { minP }),
    ...(seed !== undefined && { seed }),
    ...(maxNewTokens !== undefined && { maxNewTokens }),
    ...(stop && { stop }),
  };
}

/** Loads a model with a progress bar. */
export async function loadModel(name: string, flags: ModelFlags, signal: AbortSignal): Promise<LanguageModel> {
  const bar = new ProgressBar("loading");
  try {
    return await LanguageModel.fromPretrained(name, {
      device: flags.device,
      dtype: flags.dtype,
      rotaryDtype: flags.rotaryDtype,
      signal,
      onProgress: ({ doneBytes, totalBytes }) => bar.update(doneBytes, totalBytes),
    });
  } finally {
    bar.end();
  }
}

/** NaN passes here and is refused, by name, where the option is used. */
function number(text: string): number {
  const value = Number(text);
  if (text.trim() === "") throw new InvalidArgumentError("It must be a number.");
  return value;
}

function wholeNumber(text: string): bigint {
  if (!/^-?\d+$/.test(text)) throw new InvalidArgumentError("It must be a whole number.");
  return BigInt(text);
}
