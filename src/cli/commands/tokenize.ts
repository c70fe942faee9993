import { Command } from "commander";

interface Flags {
  readonly chat?: boolean;
  readonly special: boolean;
  readonly ids?: boolean;
}

export function tokenizeCommand(): Command {
  return new Command("tokenize")
    .description("show how a model's tokenizer cuts a text; needs no GPU")
    .argument("<model>", "directory with tokenizer.json, or demo")
    .argument("<text>", "the text")
    .option("--chat", "put the text into the chat template first")
    .option("--no-special", "do not add what the model expects around a text")
    .option("--ids", "print the ids alone, on one line")
    .action(async (name: string, text: string, flags: Flags) => {
      const { AutoTokenizer } = await import("../../models/auto-tokenizer.ts");
      const tokenizer = AutoTokenizer.fromPretrained(name);
      const ids = flags.chat
        ? tokenizer.applyChatTemplate([{ role: "user", content: text }]).ids
        : tokenizer.encode(text, { addSpecialTokens: flags.special });
      if (flags.ids) {
        process.stdout.write(`${ids.join(" ")}\n`);
        return;
      }
      for (const id of ids)
        process.stdout.write(`${String(id).padStart(7)}  ${JSON.stringify(tokenizer.idToToken(id))}\n`);
      process.stdout.write(`${ids.length} tokens\n`);
    });
}
