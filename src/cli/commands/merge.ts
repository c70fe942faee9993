import { Command } from "commander";
import { interruptible } from "../errors.ts";
import { addSoftwareDevices, examples } from "../options.ts";
import { ProgressBar } from "../terminal.ts";
import { describeExport, size } from "./quantize.ts";

interface Flags {
  readonly to?: string;
  readonly device?: string;
  readonly force?: boolean;
  readonly maxShardSize?: number;
  readonly json?: boolean;
}

export function mergeCommand(): Command {
  return new Command("merge")
    .description("write a model with a LoRA adapter added to its weights")
    .argument("<base>", "directory of the model, a .gguf file, or demo; quantized ones become 16-bit")
    .argument("<adapter>", "directory of the PEFT adapter")
    .argument("<destination>", "directory to make")
    .option("--to <type>", "fp16, bf16, f32, nf4, nf4-dq (default: what the base computes in)")
    .option("--max-shard-size <size>", "the most that one safetensors file holds: 500MB, 2GB (default: 5GB)", size)
    .option("--force", "replace a model that is there already")
    .option("-d, --device <name>", "where to compute (default: LLCUDA_DEVICE, else the first GPU, else sim)")
    .option("--json", "print what was written as JSON")
    .addHelpText("after", examples("merge ./Llama-3.2-1B ./pirate-lora ./Llama-3.2-1B-pirate"))
    .action(run);
}

async function run(base: string, adapter: string, destination: string, flags: Flags): Promise<void> {
  const [{ mergeModel }] = await Promise.all([import("../../models/export/merge-model.ts"), addSoftwareDevices()]);
  const bar = new ProgressBar("writing");
  const summary = await interruptible(async (signal) => {
    try {
      return await mergeModel(base, adapter, destination, {
        to: flags.to,
        device: flags.device,
        force: flags.force,
        maxShardBytes: flags.maxShardSize,
        signal,
        onProgress: ({ doneBytes, totalBytes }) => bar.update(doneBytes, totalBytes),
      });
    } finally {
      bar.end();
    }
  });
  process.stdout.write(flags.json ? `${JSON.stringify(summary)}\n` : describeExport(summary));
}
