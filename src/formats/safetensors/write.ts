import { rmSync } from "node:fs";
import { join } from "node:path";
import { ShapeError } from "../../base/errors.ts";
import { formatShape } from "../../base/shape.ts";
import { makeDirectories, replaceFile, systemErrors, writeAll } from "../replace-file.ts";
import { indexFile, weightsFile } from "./checkpoint.ts";
import {
  defaultShardBytes,
  encodeHead,
  inFileOrder,
  intoShards,
  type SizedTensor,
  sizeTensors,
  type TensorHead,
  writeIndex,
} from "./layout.ts";

/** A tensor to write. `data` may be a function, called once when its turn comes, so that a large checkpoint never is in memory whole. */
export interface TensorToWrite extends TensorHead {
  readonly data: ArrayBufferView | (() => ArrayBufferView);
}

type Entry = TensorToWrite & SizedTensor;

/**
 * Writes one safetensors file: complete under its name or not there at all (a temporary file, then a rename).
 * Tensors are ordered by element size, widest first, then by name, as the reference writer does: every tensor is aligned to its
 * element, and the same tensors always give the same bytes. The header is padded so that the data starts at a multiple of 8.
 * Throws ShapeError when data does not fit its shape, ArgumentError for a name that occurs twice, FileError when writing fails.
 */
export function writeSafetensors(
  path: string,
  tensors: Iterable<TensorToWrite>,
  metadata: Readonly<Record<string, string>> = {},
): void {
  writeEntries(path, sizeTensors(tensors), metadata);
}

/**
 * Writes a checkpoint into `directory` (made when missing): one `model.safetensors` if everything fits in `maxShardBytes` of tensor
 * data, else shards and their index (intoShards). Weights that were there before are replaced. Returns the files written.
 */
export function writeCheckpoint(
  directory: string,
  tensors: Iterable<TensorToWrite>,
  options: { maxShardBytes?: number; metadata?: Readonly<Record<string, string>> } = {},
): string[] {
  const { maxShardBytes = defaultShardBytes, metadata = { format: "pt" } } = options;
  const shards = intoShards(sizeTensors(tensors), maxShardBytes);
  systemErrors(directory, () => makeDirectories(directory));
  const paths = shards.map((shard) => join(directory, shard.file));
  for (const [i, shard] of shards.entries()) writeEntries(paths[i]!, shard.tensors, metadata);
  if (shards.length === 1) {
    rmSync(join(directory, indexFile), { force: true });
    return paths;
  }
  const indexPath = writeIndex(directory, shards);
  rmSync(join(directory, weightsFile), { force: true }); // a single file would be preferred to the index
  return [...paths, indexPath];
}

function writeEntries(path: string, entries: readonly Entry[], metadata: Readonly<Record<string, string>>): void {
  const sorted = inFileOrder(entries);
  const head = encodeHead(path, sorted, metadata);
  replaceFile(path, (fd) => {
    writeAll(fd, head);
    for (const entry of sorted) {
      const data = typeof entry.data === "function" ? entry.data() : entry.data;
      checkData(entry, data);
      writeAll(fd, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    }
  });
}

/** Throws ShapeError unless there are as many bytes as the shape asks for. */
export function checkData({ name, type, shape, byteLength }: SizedTensor, data: ArrayBufferView): void {
  if (data.byteLength === byteLength) return;
  throw new ShapeError(
    `writeSafetensors: "${name}" ${type.name} ${formatShape(shape)} needs ${byteLength} bytes, got ${data.byteLength}`,
  );
}
