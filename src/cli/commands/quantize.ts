import { Command } from "commander";
import { type ExportFlags, keepOption, size, writeModel } from "../export.ts";
import { addSoftwareDevices, examples } from "../options.ts";

interface Flags extends ExportFlags {
  readonly to: string;
  readonly pure?: boolean;
}

export function quantizeCommand(): Command {
  return new Command("quantize")
    .description("write a model in another type: 16 bits, NF4 as bitsandbytes has it, or a GGUF file")
    .argument("<source>", "directory of a model, a .gguf file, or demo")
    .argument("<destination>", "directory to make, or for GGUF types a file to write (NAME.gguf)")
    .requiredOption(
      "--to <type>",
      "fp16, bf16, f32; into a directory also nf4, nf4-dq; into a .gguf also q4_k_m, q5_k_m, q6_k, q8_0, q4_k_s, q5_k_s, q3_k_s, q3_k_m, q3_k_l, q2_k, q4_0, q4_1, q5_0, q5_1",
    )
    .option("--max-shard-size <size>", "the most that one safetensors file holds: 500MB, 2GB (default: 5GB)", size)
    .option("--pure", "GGUF: every matrix in the type, the head too (default: more bits for what needs them)")
    .addOption(keepOption)
    .option("--force", "replace a model that is there already")
    .option("-d, --device <name>", "where to compute (default: LLCUDA_DEVICE, else the first GPU, else sim)")
    .option("--json", "print what was written as JSON")
    .addHelpText(
      "after",
      examples(
        "quantize ./Llama-3.2-1B ./Llama-3.2-1B-nf4 --to nf4-dq",
        "quantize ./Mixtral-8x7B ./Mixtral-nf4 --to nf4 --keep experts",
        "quantize ./Llama-3.2-1B ./llama-1b.Q4_K_M.gguf --to q4_k_m",
        "quantize ./model.Q4_K_M.gguf ./model-fp16 --to fp16",
      ),
    )
    .action(run);
}

async function run(source: string, destination: string, { to, pure, ...flags }: Flags): Promise<void> {
  const [{ quantizeModel }] = await Promise.all([
    import("../../models/export/quantize-model.ts"),
    addSoftwareDevices(),
  ]);
  await writeModel(flags, (options) => quantizeModel(source, destination, { to, pure, ...options }));
}
