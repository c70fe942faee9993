import { join, posix, win32 } from "node:path";
import { ArgumentError, FileError, FormatError, UnsupportedError } from "../../base/errors.ts";
import { listDirectory } from "../directory.ts";
import { describeJson, isJsonObject, readJsonFile } from "../json.ts";
import type { TensorInfo, WeightSource } from "../weight-source.ts";
import { SafetensorsFile } from "./file.ts";

export const weightsFile = "model.safetensors";
export const indexFile = "model.safetensors.index.json";

/**
 * Opens the weights of a model directory: `model.safetensors`, else the shards that `model.safetensors.index.json` names.
 * Reads and validates every header, no weights. Throws FileError (nothing there), FormatError (malformed) or
 * UnsupportedError (weights of another format).
 */
export function openCheckpoint(directory: string): WeightSource {
  const entries = listDirectory(directory);
  if (entries.includes(weightsFile)) return openFiles([join(directory, weightsFile)]);
  if (entries.includes(indexFile)) return openIndex(directory);
  throw nothingToLoad(directory, entries);
}

/** Opens safetensors files as one source, whatever their names; a name in two files is a FormatError. */
export function openFiles(paths: readonly string[]): WeightSource {
  const files = openAll(paths);
  try {
    const tensors = new Map<string, TensorInfo>();
    for (const file of files.values()) {
      for (const [name, info] of file.tensors) {
        const other = tensors.get(name);
        if (other) throw new FormatError(file.path, `${file.path}: tensor "${name}" is also in ${other.file}`);
        tensors.set(name, info);
      }
    }
    return new FileWeights(files, tensors);
  } catch (error) {
    closeAll(files);
    throw error;
  }
}

function openIndex(directory: string): WeightSource {
  const indexPath = join(directory, indexFile);
  const weightMap = readWeightMap(indexPath);
  const paths = [...new Set(weightMap.values())].sort().map((shard) => join(directory, shard));
  const files = openAll(paths, indexPath);
  try {
    const tensors = new Map<string, TensorInfo>();
    for (const [name, shard] of weightMap) {
      const info = files.get(join(directory, shard))!.tensors.get(name);
      if (!info) {
        throw new FormatError(
          indexPath,
          `${indexPath}: it places tensor ${describeJson(name)} in ${shard}, but that file does not hold it; the index and the shards are not of one model`,
        );
      }
      tensors.set(name, info);
    }
    return new FileWeights(files, tensors);
  } catch (error) {
    closeAll(files);
    throw error;
  }
}

function readWeightMap(indexPath: string): Map<string, string> {
  const weightMap = readJsonFile(indexPath, "the index of the shards").weight_map;
  if (!isJsonObject(weightMap)) {
    throw new FormatError(
      indexPath,
      `${indexPath}: weight_map must map tensors to files, got ${describeJson(weightMap)}`,
    );
  }
  const entries = Object.entries(weightMap);
  if (entries.length === 0) throw new FormatError(indexPath, `${indexPath}: weight_map names no tensors`);
  for (const [name, shard] of entries) {
    if (typeof shard !== "string" || !isPlainFileName(shard)) {
      throw new FormatError(
        indexPath,
        `${indexPath}: tensor ${describeJson(name)} is placed in ${describeJson(shard)}; expected the name of a file in the same directory`,
      );
    }
    if (!shard.endsWith(".safetensors")) {
      throw new UnsupportedError(
        `${indexPath}: shard ${describeJson(shard)} is not a safetensors file; llcuda loads only safetensors`,
      );
    }
  }
  return new Map(entries as [string, string][]);
}

/** Whether a name stays in its directory on every system: no separators, no "..", no drive or stream (`C:x`), no NUL. */
function isPlainFileName(name: string): boolean {
  return (
    name !== "" &&
    name !== "." &&
    name !== ".." &&
    posix.basename(name) === name &&
    win32.basename(name) === name &&
    !/[:\0]/.test(name)
  );
}

/** Opens every path or none. `index` is named by the error when a shard does not exist. */
function openAll(paths: readonly string[], index?: string): Map<string, SafetensorsFile> {
  const files = new Map<string, SafetensorsFile>();
  try {
    for (const path of paths) files.set(path, SafetensorsFile.open(path));
    return files;
  } catch (error) {
    closeAll(files);
    if (index && error instanceof FileError) {
      throw new FileError(error.path, `${error.message}, though ${index} names it; download the missing shard`, {
        cause: error,
      });
    }
    throw error;
  }
}

function closeAll(files: ReadonlyMap<string, SafetensorsFile>): void {
  for (const file of files.values()) file.close();
}

function nothingToLoad(directory: string, entries: readonly string[]): Error {
  const other = entries.find(
    (name) => /\.(bin|pth|pt|gguf|h5|msgpack|onnx)$/.test(name) && !name.startsWith("training_args"),
  );
  if (entries.includes("adapter_model.safetensors")) {
    return new UnsupportedError(
      `${directory}: this is a LoRA adapter, not a model; merge it into its base and load the result`,
    );
  }
  if (other) {
    return new UnsupportedError(
      `${directory}: there is no ${weightsFile}, only ${other}; convert the weights to safetensors (save_pretrained does) and load those`,
    );
  }
  return new FileError(directory, `${directory}: there are no weights: neither ${weightsFile} nor ${indexFile}`);
}

class FileWeights implements WeightSource {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly totalBytes: number;
  readonly #files: ReadonlyMap<string, SafetensorsFile>;

  constructor(files: ReadonlyMap<string, SafetensorsFile>, tensors: ReadonlyMap<string, TensorInfo>) {
    this.#files = files;
    this.tensors = tensors;
    let totalBytes = 0;
    for (const info of tensors.values()) totalBytes += info.byteLength;
    this.totalBytes = totalBytes;
  }

  read(name: string): Uint8Array {
    const info = this.tensors.get(name);
    if (!info) throw new ArgumentError(`the checkpoint has no tensor "${name}"`);
    return this.#fileOf(info).read(name);
  }

  readInto(info: TensorInfo, offset: number, target: Uint8Array): Promise<void> {
    return this.#fileOf(info).readInto(info, offset, target);
  }

  readIntoSync(info: TensorInfo, offset: number, target: Uint8Array): void {
    this.#fileOf(info).readIntoSync(info, offset, target);
  }

  close(): void {
    closeAll(this.#files);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #fileOf(info: TensorInfo): SafetensorsFile {
    const file = this.#files.get(info.file);
    if (!file) throw new ArgumentError(`tensor "${info.name}" is of another checkpoint, ${info.file}`);
    return file;
  }
}
