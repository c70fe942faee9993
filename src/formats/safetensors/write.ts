import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type DType, type DTypeLike, dtype } from "../../base/dtype.ts";
import { ArgumentError, ShapeError } from "../../base/errors.ts";
import { elementCount, formatShape } from "../../base/shape.ts";
import { replaceFile, systemErrors, writeAll } from "../replace-file.ts";
import { indexFile, weightsFile } from "./checkpoint.ts";
import { maxHeaderBytes } from "./header.ts";

/** A tensor to write. `data` may be a function, called once when its turn comes, so that a large checkpoint never is in memory whole. */
export interface TensorToWrite {
  readonly name: string;
  readonly dtype: DTypeLike;
  readonly shape: readonly number[];
  readonly data: ArrayBufferView | (() => ArrayBufferView);
}

interface Entry {
  readonly name: string;
  readonly type: DType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  readonly data: TensorToWrite["data"];
}

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
  writeEntries(path, prepare(tensors), metadata);
}

/**
 * Writes a checkpoint into `directory` (made when missing): one `model.safetensors` if everything fits in `maxShardBytes` of tensor
 * data, else shards and their index. Tensors stay in the order given, a new shard beginning where one would grow past the
 * limit; a single larger tensor gets a shard of its own. Weights that were there before are replaced. Returns the files written.
 */
export function writeCheckpoint(
  directory: string,
  tensors: Iterable<TensorToWrite>,
  options: { maxShardBytes?: number; metadata?: Readonly<Record<string, string>> } = {},
): string[] {
  const { maxShardBytes = 5_000_000_000, metadata = { format: "pt" } } = options;
  if (!(maxShardBytes > 0)) throw new ArgumentError(`maxShardBytes must be a positive number, got ${maxShardBytes}`);
  const shards = intoShards(prepare(tensors), maxShardBytes);
  systemErrors(directory, () => mkdirSync(directory, { recursive: true }));
  if (shards.length === 1) {
    const path = join(directory, weightsFile);
    writeEntries(path, shards[0]!, metadata);
    rmSync(join(directory, indexFile), { force: true });
    return [path];
  }
  const number = (n: number) => String(n).padStart(5, "0");
  const weightMap: [string, string][] = [];
  const paths = shards.map((shard, i) => {
    const name = `model-${number(i + 1)}-of-${number(shards.length)}.safetensors`;
    writeEntries(join(directory, name), shard, metadata);
    for (const entry of shard) weightMap.push([entry.name, name]);
    return join(directory, name);
  });
  const totalBytes = shards.flat().reduce((sum, entry) => sum + entry.byteLength, 0);
  const index = { metadata: { total_size: totalBytes }, weight_map: Object.fromEntries(weightMap.sort(byText)) };
  const indexPath = join(directory, indexFile);
  replaceFile(indexPath, (fd) => writeFileSync(fd, `${JSON.stringify(index, null, 2)}\n`));
  rmSync(join(directory, weightsFile), { force: true }); // a single file would be preferred to the index
  return [...paths, indexPath];
}

function prepare(tensors: Iterable<TensorToWrite>): Entry[] {
  const entries: Entry[] = [];
  const names = new Set<string>();
  for (const { name, dtype: like, shape, data } of tensors) {
    if (names.has(name) || name === "__metadata__") {
      throw new ArgumentError(
        `writeSafetensors: the name "${name}" is ${names.has(name) ? "given twice" : "reserved"}`,
      );
    }
    names.add(name);
    const type = dtype(like);
    entries.push({ name, type, shape, byteLength: elementCount(shape) * type.bytes, data });
  }
  return entries;
}

function intoShards(entries: readonly Entry[], maxShardBytes: number): Entry[][] {
  const shards: Entry[][] = [[]];
  let shardBytes = 0;
  for (const entry of entries) {
    if (shardBytes > 0 && shardBytes + entry.byteLength > maxShardBytes) {
      shards.push([]);
      shardBytes = 0;
    }
    shards.at(-1)!.push(entry);
    shardBytes += entry.byteLength;
  }
  return shards;
}

function writeEntries(path: string, entries: readonly Entry[], metadata: Readonly<Record<string, string>>): void {
  const sorted = [...entries].sort((a, b) => b.type.bytes - a.type.bytes || byText([a.name], [b.name]));
  const header = new TextEncoder().encode(headerText(sorted, metadata));
  const paddedLength = Math.ceil(header.length / 8) * 8;
  if (paddedLength > maxHeaderBytes) {
    throw new ArgumentError(
      `${path}: a header of ${paddedLength} bytes is beyond the format's limit of ${maxHeaderBytes}`,
    );
  }
  const head = new Uint8Array(8 + paddedLength).fill(0x20);
  new DataView(head.buffer).setBigUint64(0, BigInt(paddedLength), true);
  head.set(header, 8);
  replaceFile(path, (fd) => {
    writeAll(fd, head);
    for (const entry of sorted) {
      const data = typeof entry.data === "function" ? entry.data() : entry.data;
      if (data.byteLength !== entry.byteLength) {
        throw new ShapeError(
          `writeSafetensors: "${entry.name}" ${entry.type.name} ${formatShape(entry.shape)} needs ${entry.byteLength} bytes, got ${data.byteLength}`,
        );
      }
      writeAll(fd, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    }
  });
}

function headerText(sorted: readonly Entry[], metadata: Readonly<Record<string, string>>): string {
  const root: [string, unknown][] = [];
  if (Object.keys(metadata).length > 0) {
    root.push(["__metadata__", Object.fromEntries(Object.entries(metadata).sort(byText))]);
  }
  let end = 0;
  for (const { name, type, shape, byteLength } of sorted) {
    const begin = end;
    end += byteLength;
    root.push([name, { dtype: type.safetensors, shape, data_offsets: [begin, end] }]);
  }
  // Written pair by pair, because an object would move names that look like numbers to the front.
  return `{${root.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(",")}}`;
}

function byText(a: readonly [string, ...unknown[]], b: readonly [string, ...unknown[]]): number {
  return a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0;
}
