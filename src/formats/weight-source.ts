import type { DType } from "../base/dtype.ts";
import { ArgumentError } from "../base/errors.ts";
import type { GgmlType } from "../base/ggml.ts";

/** One tensor of a checkpoint: what it is and where its bytes lie. Nothing of it is in memory. */
export interface TensorInfo {
  readonly name: string;
  /** As the file spells it (`BF16`, `F8_E4M3`, `Q4_K`), known here or not. */
  readonly dtype: string;
  /** The dtype that llcuda stores such elements in; undefined for blocks and for those that it does not know. */
  readonly elementType: DType | undefined;
  /** The block format, of a quantized tensor in a GGUF file. Blocks lie along the last dimension. */
  readonly ggml?: GgmlType | undefined;
  readonly shape: readonly number[];
  /** Path of the file that holds the bytes: row-major, little-endian. */
  readonly file: string;
  /** From the start of the file. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** All weights of a model, from one file or many, as names that can be read by range. */
export interface WeightSource {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The sum of all tensors, in bytes: what a progress bar counts to. */
  readonly totalBytes: number;
  /** The bytes of one tensor in fresh memory; for small things. Throws ArgumentError when there is none of this name. */
  read(name: string): Uint8Array;
  /** Fills `target` with the tensor's bytes from `offset` on. Throws ArgumentError for a range outside the tensor. */
  readInto(info: TensorInfo, offset: number, target: Uint8Array): Promise<void>;
  readIntoSync(info: TensorInfo, offset: number, target: Uint8Array): void;
  close(): void;
  [Symbol.dispose](): void;
}

/** Throws ArgumentError unless `length` bytes from `offset` on are within the tensor. */
export function checkRange(info: TensorInfo, offset: number, length: number): void {
  if (Number.isInteger(offset) && offset >= 0 && offset + length <= info.byteLength) return;
  throw new ArgumentError(
    `${info.file}: bytes ${offset} to ${offset + length} are not within tensor "${info.name}" of ${info.byteLength} bytes`,
  );
}
