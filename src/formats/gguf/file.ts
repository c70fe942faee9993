import { ReadableFile } from "../readable-file.ts";
import { type GgufHeader, type GgufTensor, parseGguf } from "./header.ts";
import type { GgufMetadata } from "./metadata.ts";

/** One GGUF file, open for reading: its validated header, and bytes by position. No tensor is held in memory. */
export class GgufFile {
  readonly path: string;
  readonly version: number;
  readonly metadata: GgufMetadata;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
  readonly #file: ReadableFile;

  /** Opens a file and reads its header. Throws FileError, FormatError or UnsupportedError. */
  static open(path: string): GgufFile {
    const file = ReadableFile.open(path, "a GGUF file");
    try {
      return new GgufFile(file, parseGguf(file));
    } catch (error) {
      file.close();
      throw error;
    }
  }

  private constructor(file: ReadableFile, header: GgufHeader) {
    this.#file = file;
    this.path = file.path;
    this.version = header.version;
    this.metadata = header.metadata;
    this.tensors = header.tensors;
  }

  /** Fills `target` with the bytes from `position` (of the file) on. */
  read(target: Uint8Array, position: number): Promise<void> {
    return this.#file.read(target, position);
  }

  readSync(target: Uint8Array, position: number): void {
    this.#file.readSync(target, position);
  }

  close(): void {
    this.#file.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
