import { InvalidArgumentError, Option } from "commander";
import type { ExportOptions } from "../models/export/checkpoint.ts";
import type { ExportSummary } from "../models/export/summary.ts";
import { interruptible } from "./errors.ts";
import { formatBytes, ProgressBar } from "./terminal.ts";

/** What commands that write a model have in common. */
export interface ExportFlags {
  readonly device?: string;
  readonly force?: boolean;
  readonly maxShardSize?: number;
  readonly json?: boolean;
  readonly keep?: readonly string[];
}

type CommonOptions = ExportOptions & {
  readonly device: string | undefined;
  readonly maxShardBytes: number | undefined;
  readonly keep: readonly string[] | undefined;
};

/** Runs `write` with a progress bar, and prints what was written. Ctrl-C ends it. */
export async function writeModel(
  flags: ExportFlags,
  write: (options: CommonOptions) => Promise<ExportSummary>,
): Promise<void> {
  const { device, force, keep, maxShardSize: maxShardBytes } = flags;
  const bar = new ProgressBar("writing");
  const summary = await interruptible(async (signal) => {
    try {
      return await write({
        device,
        force,
        keep,
        maxShardBytes,
        signal,
        onProgress: ({ doneBytes, totalBytes }) => bar.update(doneBytes, totalBytes),
      });
    } finally {
      bar.end();
    }
  });
  process.stdout.write(flags.json ? `${JSON.stringify(summary)}\n` : describeExport(summary));
}

/** The option of either command, given once for each name. */
export const keepOption = new Option(
  "--keep <module>",
  "nf4: leaves a module in 16 bits, by a name or parts of one; may be repeated: experts, mlp.down_proj, layers.*.self_attn",
).argParser((module, others: readonly string[] = []) => [...others, module]);

const units: Readonly<Record<string, number>> = { "": 1, B: 1, KB: 1e3, MB: 1e6, GB: 1e9 };

/** Bytes of `2GB`. */
export function size(text: string): number {
  const [, digits, unit = ""] = /^(\d+(?:\.\d+)?)\s*([KMG]?B)?$/i.exec(text.trim()) ?? [];
  const bytes = Number(digits) * units[unit.toUpperCase()]!;
  if (bytes > 0) return bytes;
  throw new InvalidArgumentError("it must be a size such as 500MB or 5GB");
}

function describeExport({ path, tensors, sizeBytes, types }: ExportSummary): string {
  const lines = types.map(
    ({ type, weights, sizeBytes: size }) =>
      `  ${type.padEnd(26)} ${String(weights).padStart(6)} weights  ${formatBytes(size).padStart(8)}`,
  );
  return [`${path}: ${tensors} weights, ${formatBytes(sizeBytes)}`, ...lines, ""].join("\n");
}
