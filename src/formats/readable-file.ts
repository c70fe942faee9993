import { closeSync, fstatSync, read, readSync } from "node:fs";
import { FileError, FormatError, StateError } from "../base/errors.ts";
import { isMissing, openToRead, reasonOf } from "./json.ts";

/** Node refuses single reads of 2 GiB and more; the system may return less than asked anyway. */
const maxReadBytes = 1 << 30;

/**
 * A regular file, open for reads at any position. Positions are plain numbers, exact to 2^53, so files beyond 2 GiB need
 * nothing special. Whoever opens it closes it.
 */
export class ReadableFile {
  readonly path: string;
  readonly sizeBytes: number;
  #fd: number | undefined;

  /** `what` names the kind of file in messages ("a safetensors file"). Throws FileError. */
  static open(path: string, what: string): ReadableFile {
    let fd: number;
    try {
      fd = openToRead(path);
    } catch (cause) {
      const problem = isMissing(cause) ? "there is no such file" : `the file cannot be opened (${reasonOf(cause)})`;
      throw new FileError(path, `${path}: ${problem}`, { cause });
    }
    const stat = fstatSync(fd);
    if (stat.isFile()) return new ReadableFile(path, fd, stat.size);
    closeSync(fd);
    throw new FileError(path, `${path}: expected ${what}, but it is not a regular file`);
  }

  private constructor(path: string, fd: number, sizeBytes: number) {
    this.path = path;
    this.#fd = fd;
    this.sizeBytes = sizeBytes;
  }

  /**
   * Fills `target` with the bytes from `position` on. Throws FileError when reading fails, FormatError when the file has
   * become shorter than that, StateError when it is closed.
   */
  readSync(target: Uint8Array, position: number): void {
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

  /** The same without blocking; `target` must stay untouched until the promise resolves. */
  async read(target: Uint8Array, position: number): Promise<void> {
    for (let done = 0; done < target.length; ) {
      const wanted = Math.min(target.length - done, maxReadBytes);
      const bytesRead = await readAsync(this.#open(), target.subarray(done, done + wanted), position + done).catch(
        (error) => this.#failed(error),
      );
      done += this.#progress(bytesRead, position + done);
    }
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #progress(bytesRead: number, position: number): number {
    if (bytesRead > 0) return bytesRead;
    throw new FormatError(
      this.path,
      `${this.path}: the file ended at byte ${position}: it became shorter while it was read`,
      { byteOffset: position },
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
