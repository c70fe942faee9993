import { Command } from "commander";
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

interface Flags extends ModelFlags, SamplingFlags {
  readonly system?: string;
}

export function chatCommand(): Command {
  const command = new Command("chat")
    .description("talk with a model in the terminal")
    .addHelpText(
      "after",
      examples("chat demo", "chat ./Llama-3.2-1B-Instruct --temperature 0 --system 'Answer in one sentence.'"),
    )
    .argument("[model]", "directory of a checkpoint, or demo", "demo")
    .option("--system <text>", "a system message that opens the conversation");
  return addAdapterOptions(addSamplingOptions(addModelOptions(command))).action(run);
}

async function run(name: string, flags: Flags): Promise<void> {
  const options = generateOptions(flags);
  const { PretrainedTokenizer } = await import("../../models/auto-tokenizer.ts");
  const tokenizer = new PretrainedTokenizer(await findFiles(name, flags));
  // Says at once that a model has no chat template, before weights are loaded and a question is typed.
  tokenizer.chatTemplate;
  using model = await interruptible((signal) => loadModel(name, flags, signal, tokenizer));
  const { Conversation } = await import("../conversation.ts");
  await new Conversation(model, options, flags.system).run();
}
