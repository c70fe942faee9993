#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { Command } from "commander";
import { chatCommand } from "./commands/chat.ts";
import { demoCommand } from "./commands/demo.ts";
import { devicesCommand } from "./commands/devices.ts";
import { doctorCommand } from "./commands/doctor.ts";
import { generateCommand } from "./commands/generate.ts";
import { tokenizeCommand } from "./commands/tokenize.ts";
import { verifyCommand } from "./commands/verify.ts";
import { exitCodes, reportError } from "./errors.ts";

function version(): string {
  const file = new URL("../../package.json", import.meta.url);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}

// A reader that goes away (`| head`) is no error of ours.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

const program = new Command("llcuda")
  .description("Run large language models on NVIDIA GPUs. MODEL is a directory with a HuggingFace checkpoint, or demo.")
  .version(version(), "-v, --version")
  .showHelpAfterError("(llcuda help COMMAND shows what it takes)")
  .configureOutput({ outputError: (text, write) => write(text) })
  .exitOverride((exit) => process.exit(exit.exitCode === 0 ? 0 : exitCodes.badInput));

for (const command of [
  chatCommand(),
  generateCommand(),
  verifyCommand(),
  tokenizeCommand(),
  devicesCommand(),
  doctorCommand(),
  demoCommand(),
]) {
  program.addCommand(command.copyInheritedSettings(program));
}

program.parseAsync().catch(reportError);
