import { Command } from "commander";
import { Conversation } from "../conversation.ts";
import {
  addModelOptions,
  addSamplingOptions,
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
    .argument("[model]", "directory of a checkpoint, or demo", "demo")
    .option("--system <text>", "a system message that opens the conversation");
  return addSamplingOptions(addModelOptions(command)).action(run);
}

async function run(name: string, flags: Flags): Promise<void> {
  const loading = new AbortController();
  const interrupt = () => loading.abort();
  process.once("SIGINT", interrupt);
  using model = await loadModel(name, flags, loading.signal);
  process.removeListener("SIGINT", interrupt);
  // Says at once that a model has no chat template, before a question is typed.
  model.tokenizer.chatTemplate;
  await new Conversation(model, generateOptions(flags, loading.signal), flags.system).run();
}
