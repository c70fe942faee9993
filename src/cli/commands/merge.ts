import { Command } from "commander";
import { type ExportFlags, keepOption, size, writeModel } from "../export.ts";
import { addSoftwareDevices, examples } from "../options.ts";

interface Flags extends ExportFlags {
  readonly to?: string;
}

export function mergeCommand(): Command {
  return new Command("merge")
    .description("write a model with a LoRA adapter added to its weights")
    .argument("<base>", "directory of the model, a .gguf file, or demo; quantized ones become 16-bit")
    .argument("<adapter>", "directory of the PEFT adapter")
    .argument("<destination>", "directory to make")
    .option("--to <type>", "fp16, bf16, f32, nf4, nf4-dq (default: what the base computes in)")
    .option("--max-shard-size <size>", "the most that one safetensors file holds: 500MB, 2GB (default: 5GB)", size)
    .addOption(keepOption)
    .option("--force", "replace a model that is there already")
    .option("-d, --device <name>", "where to compute (default: LLCUDA_DEVICE, else the first GPU, else sim)")
    .option("--json", "print what was written as JSON")
    .addHelpText("after", examples("merge ./Llama-3.2-1B ./pirate-lora ./Llama-3.2-1B-pirate"))
    .action(run);
}

async function run(base: string, adapter: string, destination: string, { to, ...flags }: Flags): Promise<void> {
  const [{ mergeModel }] = await Promise.all([import("../../models/export/merge-model.ts"), addSoftwareDevices()]);
  await writeModel(flags, (options) => mergeModel(base, adapter, destination, { to, ...options }));
}
