import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type DType, type DTypeLike, dtype } from "../../base/dtype.ts";
import { ArgumentError } from "../../base/errors.ts";
import { elementCount } from "../../base/shape.ts";
import { replaceFile } from "../replace-file.ts";
import { indexFile, weightsFile } from "./checkpoint.ts";
import { maxHeaderBytes } from "./header.ts";

/** What a header says of a tensor that is to be written. */
export interface TensorHead {
  readonly name: string;
  readonly dtype: DTypeLike;
  readonly shape: readonly number[];
}

/** The same with its size. */
export interface SizedTensor {
  readonly name: string;
  readonly type: DType;
  readonly shape: readonly number[];
  readonly byteLength: number;
}

/** One file of a checkpoint. */
export interface Shard<T extends SizedTensor> {
  readonly file: string;
  readonly tensors: readonly T[];
}

/** Large enough for few files, small enough to be downloaded again: what transformers wrote by default for years. */
export const defaultShardBytes = 5_000_000_000;

/** Throws ArgumentError for a name that occurs twice or is reserved. */
export function sizeTensors<T extends TensorHead>(heads: Iterable<T>): (T & SizedTensor)[] {
  const names = new Set<string>();
  return Array.from(heads, (head) => {
    if (names.has(head.name) || head.name === "__metadata__") {
      throw new ArgumentError(
        `writeSafetensors: the name "${head.name}" is ${names.has(head.name) ? "given twice" : "reserved"}`,
      );
    }
    names.add(head.name);
    const type = dtype(head.dtype);
    return { ...head, type, byteLength: elementCount(head.shape) * type.bytes };
  });
}

/**
 * One `model.safetensors` if everything fits in `maxShardBytes`, else numbered shards: tensors stay in the order given, a new shard
 * begins where one would grow past the limit, and a single larger tensor gets a shard of its own.
 */
export function intoShards<T extends SizedTensor>(tensors: readonly T[], maxShardBytes: number): Shard<T>[] {
  if (!(maxShardBytes > 0)) throw new ArgumentError(`maxShardBytes must be a positive number, got ${maxShardBytes}`);
  const shards: T[][] = [[]];
  let shardBytes = 0;
  for (const tensor of tensors) {
    if (shardBytes > 0 && shardBytes + tensor.byteLength > maxShardBytes) {
      shards.push([]);
      shardBytes = 0;
    }
    shards.at(-1)!.push(tensor);
    shardBytes += tensor.byteLength;
  }
  if (shards.length === 1) return [{ file: weightsFile, tensors: shards[0]! }];
  const number = (n: number) => String(n).padStart(5, "0");
  return shards.map((own, i) => ({
    file: `model-${number(i + 1)}-of-${number(shards.length)}.safetensors`,
    tensors: own,
  }));
}

/** Widest elements first, then by name, as the reference writer has them: every tensor is aligned to its element. */
export function inFileOrder<T extends SizedTensor>(tensors: readonly T[]): T[] {
  return [...tensors].sort((a, b) => b.type.bytes - a.type.bytes || byText([a.name], [b.name]));
}

/** The length and the JSON of a header for tensors that lie in this order, padded so that data starts at a multiple of 8. */
export function encodeHead(
  path: string,
  ordered: readonly SizedTensor[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  const header = new TextEncoder().encode(headerText(ordered, metadata));
  const paddedLength = Math.ceil(header.length / 8) * 8;
  if (paddedLength > maxHeaderBytes) {
    throw new ArgumentError(
      `${path}: a header of ${paddedLength} bytes is beyond the format's limit of ${maxHeaderBytes}`,
    );
  }
  const head = new Uint8Array(8 + paddedLength).fill(0x20);
  new DataView(head.buffer).setBigUint64(0, BigInt(paddedLength), true);
  head.set(header, 8);
  return head;
}

/** Writes the index of several shards; returns its path. */
export function writeIndex(directory: string, shards: readonly Shard<SizedTensor>[]): string {
  const weightMap = shards.flatMap(({ file, tensors }) => tensors.map(({ name }): [string, string] => [name, file]));
  const totalBytes = shards.flatMap(({ tensors }) => tensors).reduce((sum, tensor) => sum + tensor.byteLength, 0);
  const index = { metadata: { total_size: totalBytes }, weight_map: Object.fromEntries(weightMap.sort(byText)) };
  const path = join(directory, indexFile);
  replaceFile(path, (fd) => writeFileSync(fd, `${JSON.stringify(index, null, 2)}\n`));
  return path;
}

function headerText(ordered: readonly SizedTensor[], metadata: Readonly<Record<string, string>>): string {
  const root: [string, unknown][] = [];
  if (Object.keys(metadata).length > 0) {
    root.push(["__metadata__", Object.fromEntries(Object.entries(metadata).sort(byText))]);
  }
  let end = 0;
  for (const { name, type, shape, byteLength } of ordered) {
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
