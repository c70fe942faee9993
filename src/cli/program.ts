import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { chatCommand } from "./commands/chat.ts";
import { demoCommand } from "./commands/demo.ts";
import { devicesCommand } from "./commands/devices.ts";
import { doctorCommand } from "./commands/doctor.ts";
import { generateCommand } from "./commands/generate.ts";
import { inspectCommand } from "./commands/inspect.ts";
import { mergeCommand } from "./commands/merge.ts";
import { perplexityCommand } from "./commands/perplexity.ts";
import { quantizeCommand } from "./commands/quantize.ts";
import { simCommand } from "./commands/sim.ts";
import { tokenizeCommand } from "./commands/tokenize.ts";
import { verifyCommand } from "./commands/verify.ts";
import { exitCodes, reportError } from "./errors.ts";

const closing = `
MODEL is a directory with a HuggingFace checkpoint (config.json, tokenizer.json, *.safetensors) or a LoRA adapter, a .gguf
file, or demo for the small model that comes with llcuda.

Exit codes: 0 done; 1 a check failed; 2 unusable input, or a device that is not there; 130 interrupted.
Environment variables are listed in docs/settings.md; llcuda doctor says what this machine lacks.
`;

/**
 * The command line, without running anything. The modules of a command say what it takes, and import what it does only
 * when it runs: help, a wrong option or tokenize need not wait for kernels and engine to be read.
 */
export function createProgram(): Command {
  const program = new Command("llcuda")
    .description("Run large language models on NVIDIA GPUs.")
    .version(packageVersion(), "-v, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .helpCommand("help [command]", "say what a command takes")
    .addHelpText("after", closing)
    .exitOverride();
  const groups: [string, Command[]][] = [
    ["Use a model:", [chatCommand(), generateCommand(), demoCommand()]],
    ["Convert:", [quantizeCommand(), mergeCommand()]],
    ["Look inside:", [inspectCommand(), tokenizeCommand(), verifyCommand(), perplexityCommand()]],
    ["Work on kernels:", [simCommand()]],
    ["This machine:", [devicesCommand(), doctorCommand()]],
  ];
  for (const [heading, commands] of groups) {
    for (const command of commands) program.addCommand(command.helpGroup(heading));
  }
  inherit(program);
  return program;
}

/** Runs one command line and sets the process's exit code; it never throws. Without arguments it prints help. */
export async function run(args: readonly string[]): Promise<void> {
  const program = createProgram();
  try {
    if (args.length === 0) program.outputHelp();
    else await program.parseAsync(args, { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) reportError(error);
    else if (error.exitCode !== 0) process.exitCode = exitCodes.badInput; // what is wrong has been printed
  }
}

/** Gives a command's settings to those below it. */
function inherit(command: Command): void {
  oneSentence(command);
  for (const sub of command.commands) inherit(sub.copyInheritedSettings(command));
}

/** What is wrong with a command line, on one line that ends with where to read on. */
function oneSentence(command: Command): void {
  const help = command.parent?.parent
    ? `llcuda ${command.parent.name()} ${command.name()} --help`
    : command.parent
      ? `llcuda help ${command.name()}`
      : "llcuda help";
  command.configureOutput({
    outputError: (text, write) => {
      const [first = "", suggestion] = text
        .replace(/^error: /, "")
        .trim()
        .split("\n");
      const problem = first.replace(" is invalid. ", ": ").replace(". Expected", ": expected").replace(/\.$/, "");
      const hint = suggestion === undefined ? "" : ` ${suggestion.replace("(Did", "(did")}`;
      write(`llcuda: ${problem}${hint}; ${help} says what it takes\n`);
    },
  });
}

function packageVersion(): string {
  const file = new URL("../../package.json", import.meta.url);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}
