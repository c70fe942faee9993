import { ArgumentError } from "../../base/errors.ts";
import { ReadableFile } from "../readable-file.ts";
import { checkRange, type TensorInfo } from "../weight-source.ts";
import { headerLength, parseHeader } from "./header.ts";

/** One safetensors file, open for reading: its validated header, and its bytes by range. No weights are held in memory. */
export class SafetensorsFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly #file: ReadableFile;

  /** Opens a file and reads its header. Throws FileError when it cannot be opened, FormatError when it is malformed. */
  static open(path: string): SafetensorsFile {
    const file = ReadableFile.open(path, "a safetensors file");
    try {
      return new SafetensorsFile(file);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  private constructor(file: ReadableFile) {
    this.path = file.path;
    this.sizeBytes = file.sizeBytes;
    this.#file = file;
    const prefix = new Uint8Array(Math.min(8, file.sizeBytes));
    file.readSync(prefix, 0);
    const json = new Uint8Array(headerLength(prefix, file.path, file.sizeBytes));
    file.readSync(json, 8);
    const header = parseHeader(json, file.path, file.sizeBytes);
    this.tensors = header.tensors;
    this.metadata = header.metadata;
  }

  /** The bytes of one tensor, in fresh memory aligned for any element type. For small things; weights stream by `readInto`. */
  read(name: string): Uint8Array {
    const info = this.tensors.get(name);
    if (!info) throw new ArgumentError(`${this.path}: there is no tensor "${name}"`);
    const bytes = new Uint8Array(info.byteLength);
    this.#file.readSync(bytes, info.byteOffset);
    return bytes;
  }

  /**
   * Fills `target` with the bytes of `info` from `offset` (bytes within the tensor) on. Resolves when all of it is there.
   * `target` must stay untouched until then. Throws ArgumentError for a range outside the tensor, FileError when reading fails.
   */
  async readInto(info: TensorInfo, offset: number, target: Uint8Array): Promise<void> {
    await this.#file.read(target, this.#start(info, offset, target.length));
  }

  /** `readInto` for a thread that may block. */
  readIntoSync(info: TensorInfo, offset: number, target: Uint8Array): void {
    this.#file.readSync(target, this.#start(info, offset, target.length));
  }

  close(): void {
    this.#file.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #start(info: TensorInfo, offset: number, length: number): number {
    if (info.file !== this.path) throw new ArgumentError(`${this.path}: tensor "${info.name}" is in ${info.file}`);
    checkRange(info, offset, length);
    return info.byteOffset + offset;
  }
}
