import { bfloat16 } from "../../base/dtype.ts";
import { ArgumentError } from "../../base/errors.ts";
import type { Device } from "../../driver/device.ts";
import { openDevice } from "../../driver/open.ts";
import { sourcePaths } from "../../formats/model-files/adapter.ts";
import { LoraAdapter } from "../../formats/peft/adapter.ts";
import { checkDestination } from "../../formats/replace-directory.ts";
import { findModelWithAdapter } from "../find-model.ts";
import { AdapterChange } from "./adapter-change.ts";
import { type ExportOptions, exportCheckpoint, exportedWeights } from "./checkpoint.ts";
import { checkpointFormatOf, checkpointFormats, formatOf } from "./formats.ts";
import type { ExportSummary } from "./summary.ts";

export interface MergeModelOptions extends ExportOptions {
  /** How the result is stored; by default in the dtype that the base computes in, not quantized. */
  readonly to?: string | undefined;
  readonly device?: Device | string | undefined;
  readonly maxShardBytes?: number | undefined;
  readonly keep?: readonly string[] | undefined;
}

/**
 * Writes the model `base` (a folder, a `.gguf` file, `demo`) with the PEFT adapter in `adapterDirectory` added to its weights: in
 * float32, from quantized ones as well, rounded once. One weight at a time is in memory. Files are checked before a device is opened.
 * Throws ArgumentError, FileError, FormatError, UnsupportedError, DeviceError.
 */
export async function mergeModel(
  base: string,
  adapterDirectory: string,
  destination: string,
  options: MergeModelOptions = {},
): Promise<ExportSummary> {
  const { to, device, ...common } = options;
  const files = findModelWithAdapter(base, { adapter: adapterDirectory });
  const config = files.readConfig();
  const plain = formatOf({ ...config, quantization: undefined }, config.dtype ?? bfloat16);
  const format = to === undefined ? plain : checkpointFormatOf(to);
  if (!format) throw new ArgumentError(`type "${to}" is not known; use ${checkpointFormats.join(", ")}`);
  if (destination.toLowerCase().endsWith(".gguf")) {
    throw new ArgumentError(
      `${destination}: a merged model is written as a folder; quantize makes a GGUF file of that`,
    );
  }
  checkDestination(destination, "directory", { force: options.force, source: sourcePaths(files) });
  using adapter = LoraAdapter.open(adapterDirectory);
  using source = files.openWeights();
  const weights = exportedWeights(source, config);
  const hasHead = weights.some(({ name }) => /(^|\.)lm_head\.weight$/.test(name));
  const change = new AdapterChange(adapter, weights, files.path, !hasHead);
  return await exportCheckpoint(files, destination, () => (typeof device === "object" ? device : openDevice(device)), {
    ...common,
    format,
    change,
  });
}
