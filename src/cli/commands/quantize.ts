import { existsSync, statSync } from "node:fs";
import { Command } from "commander";
import { ArgumentError } from "../../base/errors.ts";
import { ggmlType, supportedGgmlTypes } from "../../base/ggml.ts";
import { examples } from "../options.ts";
import { formatBytes } from "../terminal.ts";

interface Flags {
  readonly to: string;
  readonly force?: boolean;
}

export function quantizeCommand(): Command {
  return new Command("quantize")
    .description("write a checkpoint as one GGUF file, in 16 bits or quantized; needs no GPU")
    .argument("<model>", "directory with float32, float16 or bfloat16 weights, or demo")
    .argument("<file>", "the .gguf file to write")
    .requiredOption("--to <type>", "f32, f16, bf16, q8_0, q5_1, q5_0, q4_1 or q4_0: what matrices become")
    .option("--force", "replace a file that is there")
    .addHelpText("after", examples("quantize ./Llama-3.2-1B-Instruct ./llama.gguf --to q8_0"))
    .action(async (name: string, path: string, flags: Flags) => {
      const [{ exportGguf }, { canQuantize }, { findModel }] = await Promise.all([
        import("../../formats/gguf/export/export.ts"),
        import("../../formats/gguf/quantize.ts"),
        import("../../models/find-model.ts"),
      ]);
      const types = supportedGgmlTypes.filter(canQuantize).map((type) => type.name.toLowerCase());
      if (!types.includes(flags.to.toLowerCase())) {
        throw new ArgumentError(`--to "${flags.to}" is not supported; use one of ${types.join(", ")}`);
      }
      if (!path.toLowerCase().endsWith(".gguf")) {
        throw new ArgumentError(
          `${path}: the file to write must be named .gguf, as readers tell formats by their names`,
        );
      }
      if (existsSync(path) && !flags.force) throw new ArgumentError(`${path}: the file exists; --force replaces it`);
      exportGguf(findModel(name), path, ggmlType(flags.to));
      process.stdout.write(`${path}: ${formatBytes(statSync(path).size)}\n`);
    });
}
