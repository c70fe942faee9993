import { Command, InvalidArgumentError } from "commander";
import type { ExportSummary } from "../../models/export/summary.ts";
import { interruptible } from "../errors.ts";
import { addSoftwareDevices, examples } from "../options.ts";
import { formatBytes, ProgressBar } from "../terminal.ts";

interface Flags {
  readonly to: string;
  readonly device?: string;
  readonly force?: boolean;
  readonly maxShardSize?: number;
  readonly pure?: boolean;
  readonly json?: boolean;
}

export function quantizeCommand(): Command {
  return new Command("quantize")
    .description("write a model in another type: 16 bits, NF4 as bitsandbytes has it, or a GGUF file")
    .argument("<source>", "directory of a model, a .gguf file, or demo")
    .argument("<destination>", "directory to make, or for GGUF types a file to write (NAME.gguf)")
    .requiredOption("--to <type>", "fp16, bf16, f32, nf4, nf4-dq; into a .gguf also q8_0, q4_0, q4_1, q5_0, q5_1")
    .option("--max-shard-size <size>", "the most that one safetensors file holds: 500MB, 2GB (default: 5GB)", size)
    .option("--pure", "GGUF: every matrix in the type, the head too (default: the head in q8_0 at least)")
    .option("--force", "replace a model that is there already")
    .option("-d, --device <name>", "where to compute (default: LLCUDA_DEVICE, else the first GPU, else sim)")
    .option("--json", "print what was written as JSON")
    .addHelpText(
      "after",
      examples(
        "quantize ./Llama-3.2-1B ./Llama-3.2-1B-nf4 --to nf4-dq",
        "quantize ./Llama-3.2-1B ./llama-1b.Q8_0.gguf --to q8_0",
        "quantize ./model.Q4_K_M.gguf ./model-fp16 --to fp16",
      ),
    )
    .action(run);
}

const units: Readonly<Record<string, number>> = { "": 1, B: 1, KB: 1e3, MB: 1e6, GB: 1e9 };

/** Bytes of `2GB`. */
export function size(text: string): number {
  const [, digits, unit = ""] = /^(\d+(?:\.\d+)?)\s*([KMG]?B)?$/i.exec(text.trim()) ?? [];
  const bytes = Number(digits) * units[unit.toUpperCase()]!;
  if (bytes > 0) return bytes;
  throw new InvalidArgumentError("it must be a size such as 500MB or 5GB");
}

async function run(source: string, destination: string, flags: Flags): Promise<void> {
  const [{ quantizeModel }] = await Promise.all([
    import("../../models/export/quantize-model.ts"),
    addSoftwareDevices(),
  ]);
  const bar = new ProgressBar("writing");
  const summary = await interruptible(async (signal) => {
    try {
      return await quantizeModel(source, destination, {
        to: flags.to,
        device: flags.device,
        force: flags.force,
        maxShardBytes: flags.maxShardSize,
        pure: flags.pure,
        signal,
        onProgress: ({ doneBytes, totalBytes }) => bar.update(doneBytes, totalBytes),
      });
    } finally {
      bar.end();
    }
  });
  process.stdout.write(flags.json ? `${JSON.stringify(summary)}\n` : describeExport(summary));
}

export function describeExport({ path, tensors, sizeBytes, types }: ExportSummary): string {
  const lines = types.map(
    ({ type, weights, sizeBytes: size }) =>
      `  ${type.padEnd(26)} ${String(weights).padStart(6)} weights  ${formatBytes(size).padStart(8)}`,
  );
  return [`${path}: ${tensors} weights, ${formatBytes(sizeBytes)}`, ...lines, ""].join("\n");
}
