import { Command } from "commander";
import { examples } from "../options.ts";

interface Flags {
  readonly json?: boolean;
}

export function inspectCommand(): Command {
  return new Command("inspect")
    .description("say what a model, adapter or weights file holds: architecture, types, memory; needs no GPU")
    .argument("<path>", "directory of a model or adapter, a .gguf or .safetensors file, or demo")
    .option("--json", "print everything as JSON")
    .addHelpText("after", examples("inspect ./Llama-3.2-1B-Instruct", "inspect ./model.Q4_K_M.gguf --json"))
    .action(async (path: string, flags: Flags) => {
      const [{ inspect }, { describeInspection }] = await Promise.all([
        import("../inspect/inspect.ts"),
        import("../inspect/print.ts"),
      ]);
      const inspection = inspect(path);
      process.stdout.write(
        flags.json ? `${JSON.stringify(inspection, null, 2)}\n` : describeInspection(path, inspection),
      );
    });
}
