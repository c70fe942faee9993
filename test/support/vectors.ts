import { readFileSync } from "node:fs";
import { brotliDecompressSync } from "node:zlib";
import { bfloat16, type DType, dtypeFromSafetensors } from "../../src/base/dtype.ts";
import { headerLength, parseHeader } from "../../src/formats/safetensors/header.ts";
import type { TensorInfo } from "../../src/formats/weight-source.ts";

/** Reference vectors: a few small tensors with the answers of another implementation, from test/fixtures/NAME.br, a compressed file. */
export class Vectors {
  readonly #bytes: Uint8Array;
  readonly #tensors: ReadonlyMap<string, TensorInfo>;

  /** `name` is that of a safetensors file. */
  constructor(name: string) {
    const bytes = brotliDecompressSync(readFileSync(new URL(`../fixtures/${name}.br`, import.meta.url)));
    const length = headerLength(bytes, name, bytes.length);
    this.#bytes = bytes;
    this.#tensors = parseHeader(bytes.subarray(8, 8 + length), name, bytes.length).tensors;
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  shape(name: string): readonly number[] {
    return this.#find(name).shape;
  }

  /** In fresh memory, aligned for any element type. */
  bytes(name: string): Uint8Array {
    const { byteOffset, byteLength } = this.#find(name);
    return new Uint8Array(this.#bytes.subarray(byteOffset, byteOffset + byteLength));
  }

  floats(name: string): Float32Array {
    return this.#view(name) as Float32Array;
  }

  /** bfloat16 as bits. */
  words(name: string): Uint16Array {
    return bfloat16.view(this.bytes(name)) as Uint16Array;
  }

  #find(name: string): TensorInfo {
    const info = this.#tensors.get(name);
    if (!info) throw new Error(`there is no vector ${name}`);
    return info;
  }

  #view(name: string) {
    const dtype: DType | undefined = dtypeFromSafetensors(this.#find(name).dtype);
    if (!dtype) throw new Error(`vector ${name} has no element type`);
    return dtype.view(this.bytes(name));
  }
}
