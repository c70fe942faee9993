import { FormatError } from "../../base/errors.ts";

/** What a header is parsed from: a file, or bytes in memory. */
export interface ByteSource {
  readonly path: string;
  readonly sizeBytes: number;
  readSync(target: Uint8Array, position: number): void;
}

/**
 * The most bytes that may stand before the tensors: the limit that safetensors sets for its own header. The metadata of real
 * files, nearly all of it vocabulary, is ten times smaller.
 */
export const maxHeaderBytes = 100_000_000;

const windowBytes = 1 << 20;
/** What is copied out of the window; more is read straight into its place. */
const smallBytes = 1 << 12;

/**
 * Reads a file from its beginning, value after value, through a window of 1 MiB. Every length is compared with what is left of the
 * file before anything is allocated for it, so that a damaged one cannot ask for more memory than the file has bytes.
 */
export class Cursor {
  /** What is being read, for messages: "the value of general.name". */
  reading = "the header";
  /** From the start of the file. */
  position = 0;
  readonly #source: ByteSource;
  readonly #window: Buffer;
  #view: DataView;
  #windowStart = 0;
  #windowLength = 0;

  constructor(source: ByteSource) {
    this.#source = source;
    this.#window = Buffer.allocUnsafe(Math.min(windowBytes, source.sizeBytes));
    this.#view = new DataView(this.#window.buffer, this.#window.byteOffset, this.#window.length);
  }

  u8(): number {
    return this.#view.getUint8(this.#advance(1));
  }

  u32(): number {
    return this.#view.getUint32(this.#advance(4), true);
  }

  /** An unsigned 64-bit size. One beyond 2^53 is refused: no file has as many bytes. */
  u64(): number {
    const at = this.#advance(8);
    const high = this.#view.getUint32(at + 4, true);
    if (high >= 1 << 21) {
      this.fail(`is ${this.#view.getBigUint64(at, true)}, more than any file can hold`, 8);
    }
    return high * 2 ** 32 + this.#view.getUint32(at, true);
  }

  /** UTF-8 of `length` bytes; malformed sequences become U+FFFD. */
  text(length: number): string {
    if (length <= this.#window.length) {
      const at = this.#advance(length);
      return this.#window.toString("utf8", at, at + length);
    }
    return Buffer.from(this.bytes(length)).toString("utf8");
  }

  /** A copy of `length` bytes, aligned for any typed array. */
  bytes(length: number): Uint8Array<ArrayBuffer> {
    if (length <= smallBytes) {
      const at = this.#advance(length);
      return new Uint8Array(this.#window.subarray(at, at + length));
    }
    this.need(length);
    const copy = new Uint8Array(length);
    this.#source.readSync(copy, this.position);
    this.position += length;
    return copy;
  }

  /** Checks that `count` bytes follow. */
  need(count: number): void {
    const end = this.position + count;
    const { sizeBytes } = this.#source;
    if (end > sizeBytes) {
      this.fail(`needs ${count} bytes but ${sizeBytes - this.position} follow; the file is truncated or damaged`);
    }
    if (end > maxHeaderBytes) {
      this.fail(`ends at byte ${end}, beyond the ${maxHeaderBytes} that metadata may have; the file is damaged`);
    }
  }

  /** Throws the FormatError for what is being read; `behind` says how many bytes ago it began. */
  fail(problem: string, behind = 0): never {
    const { path } = this.#source;
    const byteOffset = this.position - behind;
    throw new FormatError(path, `${path}: ${this.reading} ${problem} (at byte ${byteOffset})`, { byteOffset });
  }

  /** Moves on by `count` bytes, which then lie in the window; returns where in it they begin. */
  #advance(count: number): number {
    this.need(count);
    if (this.position + count > this.#windowStart + this.#windowLength || this.position < this.#windowStart) {
      this.#windowStart = this.position;
      this.#windowLength = Math.min(this.#window.length, this.#source.sizeBytes - this.position);
      this.#source.readSync(this.#window.subarray(0, this.#windowLength), this.position);
    }
    const at = this.position - this.#windowStart;
    this.position += count;
    return at;
  }
}
