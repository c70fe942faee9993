import { bfloat16, type DType, dtypeFromSafetensors } from "../../src/base/dtype.ts";
import { SafetensorsFile } from "../../src/formats/safetensors/file.ts";

/** A file of reference vectors in test/fixtures: a few small tensors with the answers of another implementation. */
export class Vectors implements Disposable {
  readonly #file: SafetensorsFile;

  constructor(name: string) {
    this.#file = SafetensorsFile.open(new URL(`../fixtures/${name}`, import.meta.url).pathname);
  }

  has(name: string): boolean {
    return this.#file.tensors.has(name);
  }

  shape(name: string): readonly number[] {
    const info = this.#file.tensors.get(name);
    if (!info) throw new Error(`there is no vector ${name}`);
    return info.shape;
  }

  bytes(name: string): Uint8Array {
    return this.#file.read(name);
  }

  floats(name: string): Float32Array {
    return this.#view(name) as Float32Array;
  }

  /** bfloat16 as bits. */
  words(name: string): Uint16Array {
    return bfloat16.view(this.#file.read(name)) as Uint16Array;
  }

  #view(name: string) {
    const dtype: DType | undefined = dtypeFromSafetensors(this.#file.tensors.get(name)?.dtype ?? "");
    if (!dtype) throw new Error(`vector ${name} has no element type`);
    return dtype.view(this.#file.read(name));
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}
