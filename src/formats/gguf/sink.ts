import { closeSync, fsyncSync, ftruncateSync, openSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { ArgumentError, ShapeError, StateError } from "../../base/errors.ts";
import { systemErrors, writeAt } from "../replace-file.ts";
import type { GgufValue } from "./values.ts";
import { encodeHeader, type GgufTensorHead, tensorBytes } from "./write.ts";

interface Place {
  readonly position: number;
  readonly byteLength: number;
  written: number;
}

/**
 * A GGUF file whose tensors are written in any order and in pieces, each from its start on. The file has its name when `finish`
 * has been called; until then a temporary one beside it, which `dispose` removes.
 */
export class GgufSink implements Disposable {
  readonly #path: string;
  readonly #temporary: string;
  readonly #places: ReadonlyMap<string, Place>;
  readonly #sizeBytes: number;
  #fd: number | undefined;
  /** Whether the temporary file is there. */
  #isThere = false;

  /** Throws ArgumentError for names that occur twice, ShapeError for rows that are no whole number of blocks, FileError. */
  constructor(path: string, metadata: ReadonlyMap<string, GgufValue>, tensors: readonly GgufTensorHead[]) {
    const { head, offsets, alignment } = encodeHeader(metadata, tensors);
    this.#path = path;
    this.#temporary = join(dirname(path), `.${basename(path)}.${process.pid}.tmp`);
    let end = head.length;
    const places = tensors.map((tensor, i): [string, Place] => {
      const [position, byteLength] = [head.length + offsets[i]!, tensorBytes(tensor)];
      end = position + Math.ceil(byteLength / alignment) * alignment;
      return [tensor.name, { position, byteLength, written: 0 }];
    });
    this.#places = new Map(places);
    this.#sizeBytes = end;
    try {
      systemErrors(path, () => {
        this.#fd = openSync(this.#temporary, "w");
        this.#isThere = true;
        writeAt(this.#fd, head, 0);
      });
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** Appends to what is there of a tensor. Throws ShapeError when it has no room for that. */
  write(name: string, data: Uint8Array): void {
    const place = this.#places.get(name);
    if (!place || this.#fd === undefined) throw new ArgumentError(`${this.#path}: "${name}" was not announced`);
    if (place.written + data.length > place.byteLength) {
      throw new ShapeError(
        `${this.#path}: "${name}" has ${place.byteLength} bytes, got ${place.written + data.length} and more`,
      );
    }
    const fd = this.#fd;
    systemErrors(this.#path, () => writeAt(fd, data, place.position + place.written));
    place.written += data.length;
  }

  /** Gives the file its name. Throws StateError when a tensor is not whole. */
  finish(): void {
    for (const [name, { written, byteLength }] of this.#places) {
      if (written !== byteLength) {
        throw new StateError(`${this.#path}: only ${written} of ${byteLength} bytes of "${name}" were written`);
      }
    }
    const fd = this.#fd!;
    systemErrors(this.#path, () => {
      ftruncateSync(fd, this.#sizeBytes); // the last tensor is padded too
      fsyncSync(fd);
      closeSync(fd);
      this.#fd = undefined;
      renameSync(this.#temporary, this.#path);
      this.#isThere = false;
    });
  }

  dispose(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
    if (this.#isThere) rmSync(this.#temporary, { force: true });
    this.#isThere = false;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
