import { join } from "node:path";
import { bfloat16, type DType } from "../../base/dtype.ts";
import { ArgumentError, UnsupportedError } from "../../base/errors.ts";
import { elementCount } from "../../base/shape.ts";
import type { Device } from "../../driver/device.ts";
import type { ModelConfig } from "../../formats/config/model-config.ts";
import { exportedConfig } from "../../formats/export/config.ts";
import { readRawConfig, writeJson, writeSideFiles } from "../../formats/export/side-files.ts";
import { sourcePaths } from "../../formats/model-files/adapter.ts";
import type { ModelFiles } from "../../formats/model-files/model-files.ts";
import { replaceDirectory } from "../../formats/replace-directory.ts";
import type { TensorHead } from "../../formats/safetensors/layout.ts";
import { CheckpointSink } from "../../formats/safetensors/sink.ts";
import { companionNames } from "../../formats/stored/bitsandbytes.ts";
import { type FourBitPlan, fourBitData, fourBitHeads } from "../../formats/stored/bitsandbytes-write.ts";
import { refuseForeignWeights } from "../../formats/stored/foreign.ts";
import { type StoredWeight, storedBytes, storedTypeName, storedWeights } from "../../formats/stored/stored-weights.ts";
import type { TensorInfo, WeightSource } from "../../formats/weight-source.ts";
import { nestedBlockSize } from "../../kernels/nf4/levels.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { LoadedParameters } from "../loaded-parameters.ts";
import { checkBelongTogether } from "./belong-together.ts";
import { type CheckpointFormat, checkpointStorage, type Storage } from "./formats.ts";
import { exportBlockSize, quantizeToHost } from "./four-bit.ts";
import { ModelValues, type WeightChange } from "./model-values.ts";
import { isProjection, keptProjections, skippedModules } from "./modules.ts";
import { StoredValues } from "./stored-values.ts";
import { type ExportSummary, summarize } from "./summary.ts";

export interface ExportOptions {
  /** Replaces a model that is there already. */
  readonly force?: boolean | undefined;
  /** Bytes of weights that have been read, and all that will be. */
  readonly onProgress?: ((progress: { doneBytes: number; totalBytes: number }) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface CheckpointExportOptions extends ExportOptions {
  readonly format: CheckpointFormat;
  /**
   * Projections that stay in 16 bits beside NF4, by names of modules or parts of them: `experts`, `mlp.down_proj`, `layers.*.self_attn`
   * (keptProjections). What a 4-bit source has quantized of them is dequantized.
   */
  readonly keep?: readonly string[] | undefined;
  /** Bytes of tensors in one file; default 5 GB. */
  readonly maxShardBytes?: number | undefined;
  /** The network of the model, whose values count before those of the files. */
  readonly loaded?: LoadedParameters | undefined;
  /** What changes weights on their way. */
  readonly change?: WeightChange | undefined;
}

/** One weight on its way into the new checkpoint. */
interface Item {
  readonly name: string;
  /** Of the source, for progress. */
  readonly sourceBytes: number;
  readonly type: string;
  readonly heads: readonly TensorHead[];
  /** The tensors that stand for it. */
  produce(): Promise<readonly (readonly [name: string, data: ArrayBufferView])[]>;
}

/**
 * Writes a model as a folder in HuggingFace's layout that transformers loads (NF4: with bitsandbytes). One tensor at a time is in
 * host memory. The folder is complete under its name or not there; what is there already stays unless `force` is given.
 * NF4: projections of the decoder's layers are quantized; embeddings, head, norms, biases and routers stay in the model's dtype, and
 * so does what a 4-bit source left in it, and what `keep` names. A weight that is NF4 of the same kind already is copied as it is.
 * `device` is asked for only where something is quantized, before or after.
 * Throws FileError, FormatError, UnsupportedError, ArgumentError.
 */
export async function exportCheckpoint(
  files: ModelFiles,
  directory: string,
  device: () => Device,
  options: CheckpointExportOptions,
): Promise<ExportSummary> {
  const storage = checkpointStorage(options.format);
  const config = files.readConfig();
  using source = files.openWeights();
  refuseForeignWeights(source, files.path, config.quantization);
  const weights = exportedWeights(source, config);
  checkBelongTogether(config, weights, files.path);
  const dtype = storage.kind === "float" ? storage.dtype : baseDType(config, weights);
  using stored = new StoredValues(source, device);
  const values = new ModelValues(stored, options.loaded, options.change);
  const kept = keptProjections(weights, checkedKeep(options));
  const planner = { source, values, storage, dtype, kept, keepsPlain: weights.some(({ kind }) => kind === "bnb4") };
  let summary: ExportSummary | undefined;
  await replaceDirectory(directory, { force: options.force, source: sourcePaths(files) }, async (folder) => {
    const items: Item[] = [];
    for (const weight of weights) {
      options.signal?.throwIfAborted();
      items.push(await planItem(weight, planner));
    }
    const head = options.loaded?.untiedHead;
    if (head) items.push(untiedHead(head, weights, planner));
    const quantizedNames = items.filter(({ type }) => type.startsWith("nf4")).map(({ name }) => name);
    const skipModules = skippedModules(weights, quantizedNames);
    writeJson(
      join(folder, "config.json"),
      exportedConfig(readRawConfig(files), {
        dtype,
        hasOwnHead: head !== undefined,
        ...(storage.kind === "nf4" && { fourBit: { type: "nf4", nested: storage.nested, skipModules } }),
      }),
    );
    writeSideFiles(files, folder);
    const heads = items.flatMap((item) => item.heads);
    using sink = new CheckpointSink(folder, heads, { maxShardBytes: options.maxShardBytes });
    await writeItems(items, sink, options);
    sink.finish();
    summary = summarize(directory, items.map(sizeOf));
  });
  return summary!;
}

function checkedKeep({ keep = [], format }: CheckpointExportOptions): readonly string[] {
  if (keep.length === 0 || checkpointStorage(format).kind === "nf4") return keep;
  throw new ArgumentError(
    `keep: ${format} quantizes nothing, so there is nothing to keep; it goes with nf4 and nf4-dq`,
  );
}

async function writeItems(items: readonly Item[], sink: CheckpointSink, options: ExportOptions): Promise<void> {
  const totalBytes = items.reduce((sum, item) => sum + item.sourceBytes, 0);
  let doneBytes = 0;
  for (const item of items) {
    options.signal?.throwIfAborted();
    for (const [name, data] of await item.produce()) sink.write(name, data);
    doneBytes += item.sourceBytes;
    options.onProgress?.({ doneBytes, totalBytes });
  }
}

/** Without what the model does not read: a head beside tied embeddings, frequencies that old versions saved. */
export function exportedWeights(source: WeightSource, config: ModelConfig): StoredWeight[] {
  const isUnread = ({ name }: StoredWeight) =>
    /\.rotary_emb\.inv_freq$/.test(name) || (config.tieWordEmbeddings && /(^|\.)lm_head\.weight$/.test(name));
  return [...storedWeights(source).values()].filter((weight) => !isUnread(weight));
}

/** What a quantized model computes in: what its config or its weights say, else bfloat16. */
function baseDType(config: ModelConfig, weights: readonly StoredWeight[]): DType {
  if (config.dtype?.isFloat) return config.dtype;
  for (const weight of weights) if (weight.kind === "plain" && weight.dtype.isFloat) return weight.dtype;
  return bfloat16;
}

interface Planner {
  readonly source: WeightSource;
  readonly values: ModelValues;
  readonly storage: Storage;
  readonly dtype: DType;
  /** Projections that are not quantized by the user's choice. */
  readonly kept: ReadonlySet<string>;
  /** Whether projections that are stored plain stay so, because others beside them are quantized. */
  readonly keepsPlain: boolean;
}

async function planItem(weight: StoredWeight, planner: Planner): Promise<Item> {
  const { storage, values, dtype } = planner;
  if (weight.kind === "unknown") {
    throw new UnsupportedError(`${weight.name}: tensors of type ${weight.info.dtype} cannot be exported`);
  }
  if (weight.kind === "plain" && !weight.dtype.isFloat) return copied(weight, [weight.info], planner);
  const staysPlain = planner.kept.has(weight.name) || (planner.keepsPlain && weight.kind === "plain");
  if (storage.kind === "nf4" && isProjection(weight) && !staysPlain) {
    const isSame = weight.kind === "bnb4" && weight.type === "nf4" && (weight.nested !== undefined) === storage.nested;
    if (isSame && !values.isLoaded(weight.name)) {
      const names = [weight.name, ...companionNames(weight.name, "nf4")];
      const infos = names.map((name) => planner.source.tensors.get(name)).filter((info) => info !== undefined);
      return copied(weight, infos, planner);
    }
    return quantized(weight, storage.nested, planner);
  }
  return {
    ...identity(weight),
    type: dtype.name,
    heads: [{ name: weight.name, dtype, shape: weight.shape }],
    produce: async () => [[weight.name, await values.bytes(weight, dtype)]],
  };
}

function copied(weight: StoredWeight, infos: readonly TensorInfo[], { values }: Planner): Item {
  return {
    ...identity(weight),
    type: storedTypeName(weight),
    heads: infos.map(({ name, elementType, shape }) => ({ name, dtype: elementType!, shape })),
    produce: async () => {
      const data: [string, Uint8Array][] = [];
      for (const info of infos) data.push([info.name, await values.stored.bytes(info)]);
      return data;
    },
  };
}

/**
 * The offset of double quantization is part of a header's size, since it is written out in digits, so it is computed before the
 * files are laid out; the rest is computed again when its turn comes, because it would not fit in memory for all weights.
 */
async function quantized(weight: StoredWeight, nested: boolean, { values, dtype }: Planner): Promise<Item> {
  const compute = async () => {
    using x = await values.load(weight, dtype);
    return quantizeToHost(x, "nf4", nested);
  };
  const offset = nested ? (await compute()).offset : 0;
  const plan: FourBitPlan = {
    name: weight.name,
    type: "nf4",
    shape: weight.shape,
    dtype,
    blockSize: exportBlockSize,
    nested: nested ? { blockSize: nestedBlockSize, offset } : undefined,
  };
  return {
    ...identity(weight),
    type: nested ? "nf4 (double quantization)" : "nf4",
    heads: fourBitHeads(plan),
    produce: async () => fourBitData(plan, (await compute()).bytes),
  };
}

function identity(weight: StoredWeight): Pick<Item, "name" | "sourceBytes"> {
  return { name: weight.name, sourceBytes: storedBytes(weight) };
}

/** A head that was the embedding and became its own, beside the decoder as checkpoints have it. */
function untiedHead(head: Tensor, weights: readonly StoredWeight[], { values, dtype }: Planner): Item {
  const isInner = weights.some(({ name }) => name.startsWith("language_model.model."));
  const name = isInner ? "language_model.lm_head.weight" : "lm_head.weight";
  return {
    name,
    sourceBytes: 0,
    type: dtype.name,
    heads: [{ name, dtype, shape: head.shape }],
    produce: async () => [[name, values.download(name, head, dtype)]],
  };
}

function sizeOf({ type, heads }: Item): { type: string; sizeBytes: number } {
  return { type, sizeBytes: heads.reduce((sum, head) => sum + elementCount(head.shape) * bytesOf(head), 0) };
}

function bytesOf({ dtype }: TensorHead): number {
  return typeof dtype === "string" ? (dtype === "uint8" ? 1 : 4) : dtype.bytes;
}
