import { closeSync, fsyncSync, openSync } from "node:fs";
import { join } from "node:path";
import { ArgumentError, StateError } from "../../base/errors.ts";
import { systemErrors, writeAt } from "../replace-file.ts";
import {
  defaultShardBytes,
  encodeHead,
  inFileOrder,
  intoShards,
  type Shard,
  type SizedTensor,
  sizeTensors,
  type TensorHead,
  writeIndex,
} from "./layout.ts";
import { checkData } from "./write.ts";

interface Place {
  readonly tensor: SizedTensor;
  readonly fd: number;
  readonly position: number;
}

/**
 * A checkpoint whose tensors are written in any order, as they become known: every one has its place in a file from the start.
 * Shapes and dtypes of all must be known before. Not atomic: write into a folder that gets its name when all is done
 * (replaceDirectory).
 */
export class CheckpointSink implements Disposable {
  readonly #directory: string;
  readonly #shards: readonly Shard<SizedTensor>[];
  readonly #places = new Map<string, Place>();
  readonly #fds: number[] = [];

  /** Lays the files out in `directory`, which must exist. Throws ArgumentError for names that occur twice, FileError. */
  constructor(
    directory: string,
    heads: Iterable<TensorHead>,
    options: { maxShardBytes?: number | undefined; metadata?: Readonly<Record<string, string>> } = {},
  ) {
    const { maxShardBytes = defaultShardBytes, metadata = { format: "pt" } } = options;
    this.#directory = directory;
    this.#shards = intoShards(sizeTensors(heads), maxShardBytes);
    try {
      for (const { file, tensors } of this.#shards) this.#layOut(join(directory, file), tensors, metadata);
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  #layOut(path: string, tensors: readonly SizedTensor[], metadata: Readonly<Record<string, string>>): void {
    const ordered = inFileOrder(tensors);
    const head = encodeHead(path, ordered, metadata);
    systemErrors(path, () => this.#fds.push(openSync(path, "w")));
    const fd = this.#fds.at(-1)!;
    systemErrors(path, () => writeAt(fd, head, 0));
    let position = head.length;
    for (const tensor of ordered) {
      this.#places.set(tensor.name, { tensor, fd, position });
      position += tensor.byteLength;
    }
  }

  /** Writes a whole tensor, once. Throws ShapeError when data does not fit its shape, FileError. */
  write(name: string, data: ArrayBufferView): void {
    const place = this.#places.get(name);
    if (!place) throw new ArgumentError(`${this.#directory}: "${name}" was not announced, or is written already`);
    checkData(place.tensor, data);
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    systemErrors(this.#directory, () => writeAt(place.fd, bytes, place.position));
    this.#places.delete(name);
  }

  /** Makes sure that all is there and on the disk, and writes the index of several shards. Throws StateError. */
  finish(): void {
    const [missing] = this.#places.keys();
    if (missing !== undefined) throw new StateError(`${this.#directory}: "${missing}" was announced and never written`);
    systemErrors(this.#directory, () => {
      for (const fd of this.#fds) fsyncSync(fd);
    });
    this.dispose();
    if (this.#shards.length > 1) writeIndex(this.#directory, this.#shards);
  }

  dispose(): void {
    for (const fd of this.#fds.splice(0)) closeSync(fd);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
