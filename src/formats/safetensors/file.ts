import { closeSync, fstatSync, openSync, read, readSync } from "node:fs";
import { ArgumentError, FileError, FormatError, StateError } from "../../base/errors.ts";
import { isMissing, reasonOf } from "../json.ts";
import { headerLength, parseHeader, type TensorInfo } from "./header.ts";

/** Node refuses single reads of 2 GiB and more; the system may return less than asked anyway. */
const maxReadBytes = 1 << 30;

/**
 * One safetensors file, open for reading: its validated header, and its bytes by range. No weights are held in memory.
 * Positions are plain numbers, exact to 2^53, so files beyond 2 GiB need nothing special.
 */
export class SafetensorsFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: Readonly<Record<string, string>>;
  #fd: number | undefined;

  /** Opens a file and reads its header. Throws FileError when it cannot be opened, FormatError when it is malformed. */
  static open(path: string): SafetensorsFile {
    let fd: number;
    try {
      fd = openSync(path, "r");
    } catch (cause) {
      const problem = isMissing(cause) ? "there is no such file" : `the file cannot be opened (${reasonOf(cause)})`;
      throw new FileError(path, `${path}: ${problem}`, { cause });
    }
    try {
      return new SafetensorsFile(path, fd);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  private constructor(path: string, fd: number) {
    this.path = path;
    this.#fd = fd;
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new FileError(path, `${path}: expected a safetensors file, but it is not a regular file`);
    this.sizeBytes = stat.size;
    const prefix = new Uint8Array(Math.min(8, stat.size));
    this.#fillSync(prefix, 0);
    const json = new Uint8Array(headerLength(prefix, path, stat.size));
    this.#fillSync(json, 8);
    const header = parseHeader(json, path, stat.size);
    this.tensors = header.tensors;
    this.metadata = header.metadata;
  }

  /** The bytes of one tensor, in fresh memory aligned for any element type. For small things; weights stream by `readInto`. */
  read(name: string): Uint8Array {
    const info = this.tensors.get(name);
    if (!info) throw new ArgumentError(`${this.path}: there is no tensor "${name}"`);
    const bytes = new Uint8Array(info.byteLength);
    this.#fillSync(bytes, info.byteOffset);
    return bytes;
  }

  /**
   * Fills `target` with the bytes of `info` from `offset` (bytes within the tensor) on. Resolves when all of it is there.
   * `target` must stay untouched until then. Throws ArgumentError for a range outside the tensor, FileError when reading fails.
   */
  async readInto(info: TensorInfo, offset: number, target: Uint8Array): Promise<void> {
    const start = this.#start(info, offset, target.length);
    for (let done = 0; done < target.length; ) {
      const wanted = Math.min(target.length - done, maxReadBytes);
      const bytesRead = await readAsync(this.#open(), target.subarray(done, done + wanted), start + done).catch((e) =>
        this.#failed(e),
      );
      done += this.#progress(bytesRead, start + done);
    }
  }

  /** `readInto` for a thread that may block. */
  readIntoSync(info: TensorInfo, offset: number, target: Uint8Array): void {
    this.#fillSync(target, this.#start(info, offset, target.length));
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #fillSync(target: Uint8Array, position: number): void {
    for (let done = 0; done < target.length; ) {
      const wanted = Math.min(target.length - done, maxReadBytes);
      let bytesRead: number;
      try {
        bytesRead = readSync(this.#open(), target, done, wanted, position + done);
      } catch (error) {
        this.#failed(error);
      }
      done += this.#progress(bytesRead, position + done);
    }
  }

  #start(info: TensorInfo, offset: number, length: number): number {
    if (info.file !== this.path) throw new ArgumentError(`${this.path}: tensor "${info.name}" is in ${info.file}`);
    if (!(Number.isInteger(offset) && offset >= 0 && offset + length <= info.byteLength)) {
      throw new ArgumentError(
        `${this.path}: bytes ${offset} to ${offset + length} are not within tensor "${info.name}" of ${info.byteLength} bytes`,
      );
    }
    return info.byteOffset + offset;
  }

  #progress(bytesRead: number, position: number): number {
    if (bytesRead > 0) return bytesRead;
    throw new FormatError(
      this.path,
      `${this.path}: the file ended at byte ${position}: it became shorter while it was read`,
      {
        byteOffset: position,
      },
    );
  }

  #open(): number {
    if (this.#fd === undefined) throw new StateError(`${this.path}: the file is closed`);
    return this.#fd;
  }

  #failed(cause: unknown): never {
    if (cause instanceof StateError) throw cause;
    throw new FileError(this.path, `${this.path}: reading failed (${reasonOf(cause)})`, { cause });
  }
}

/** One positional read; resolves to the bytes read. */
function readAsync(fd: number, target: Uint8Array, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    read(fd, target, 0, target.length, position, (error, bytesRead) => (error ? reject(error) : resolve(bytesRead)));
  });
}
