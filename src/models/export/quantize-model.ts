import { ArgumentError } from "../../base/errors.ts";
import { openDevice } from "../../driver/open.ts";
import { sourcePaths } from "../../formats/model-files/adapter.ts";
import { checkDestination } from "../../formats/replace-directory.ts";
import { findModel } from "../find-model.ts";
import { type ExportOptions, exportCheckpoint } from "./checkpoint.ts";
import { checkpointFormatOf, formatNames, ggufFormatOf } from "./formats.ts";
import { exportGguf } from "./gguf.ts";
import type { ExportSummary } from "./summary.ts";

export interface QuantizeModelOptions extends ExportOptions {
  /** A name of formatNames. */
  readonly to: string;
  readonly device?: string | undefined;
  readonly maxShardBytes?: number | undefined;
  readonly pure?: boolean | undefined;
  readonly keep?: readonly string[] | undefined;
}

/**
 * Writes the model at `source` (a folder, a `.gguf` file, `demo`) in another type: into a folder, or into one file when
 * `destination` ends in `.gguf`. Names, types and files are checked before a device is opened, which
 * is needed only where something is quantized other than to ggml's types.
 * Throws ArgumentError, FileError, FormatError, UnsupportedError, DeviceError.
 */
export async function quantizeModel(
  source: string,
  destination: string,
  options: QuantizeModelOptions,
): Promise<ExportSummary> {
  const { to, device, maxShardBytes, pure, keep, ...common } = options;
  const isGguf = destination.toLowerCase().endsWith(".gguf");
  const [checkpoint, gguf] = [checkpointFormatOf(to), ggufFormatOf(to)];
  if (!checkpoint && !gguf) throw new ArgumentError(`type "${to}" is not known; use ${formatNames.join(", ")}`);
  if (isGguf && !gguf) {
    throw new ArgumentError(
      `${destination}: a GGUF file cannot hold ${to}; give a directory, which bitsandbytes reads`,
    );
  }
  if (!isGguf && !checkpoint) {
    throw new ArgumentError(`${destination}: ${to} is a type of GGUF files; give a file name that ends in .gguf`);
  }
  const files = findModel(source);
  if (files.adapter !== undefined) {
    throw new ArgumentError(
      `${source}: this is a LoRA adapter and no model; merge it into its base, and quantize that`,
    );
  }
  const overwrite = { force: options.force, source: sourcePaths(files) };
  checkDestination(destination, isGguf ? "file" : "directory", overwrite);
  const on = () => openDevice(device);
  if (isGguf && keep && keep.length > 0) {
    throw new ArgumentError(`keep: it goes with nf4 and nf4-dq, and ${destination} is a GGUF file`);
  }
  if (isGguf && maxShardBytes !== undefined) {
    throw new ArgumentError(`the size of shards is for folders, and ${destination} is one GGUF file`);
  }
  if (!isGguf && pure) throw new ArgumentError(`pure: it goes with GGUF files, and ${destination} is to be a folder`);
  if (isGguf) return exportGguf(files, destination, on, { ...common, format: gguf!, pure });
  return exportCheckpoint(files, destination, on, { ...common, format: checkpoint!, maxShardBytes, keep });
}
