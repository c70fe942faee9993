import { bfloat16, type DType, float16, float32 } from "../../base/dtype.ts";
import { type GgmlType, ggmlBytes } from "../../base/ggml.ts";
import { elementCount } from "../../base/shape.ts";
import type { ModelConfig } from "../../formats/config/model-config.ts";
import type { GgufArchitecture } from "../../formats/gguf/architectures.ts";
import { quantizeGgml } from "../../formats/gguf/quantize.ts";
import { interleaveRows } from "../../formats/gguf/rewrite.ts";
import type { StoredWeight } from "../../formats/stored/stored-weights.ts";
import type { KFormat } from "../../kernels/ggml/quantize.ts";
import { KQuantizer, kFormat } from "./k-blocks.ts";
import type { ModelValues } from "./model-values.ts";

/** A weight that is loaded and goes into a GGUF file. */
export interface LoadedWeight extends Disposable {
  /** Gives the bytes that the file has for it, piece by piece in order; a piece is there until `give` returns. */
  write(give: (bytes: Uint8Array) => void): Promise<void>;
}

const plainTypes: Readonly<Record<string, DType>> = { F32: float32, F16: float16, BF16: bfloat16 };
/** Elements that are quantized at a time on the host: some milliseconds, after which others get their turn. */
const sliceElements = 1 << 20;

/** The weights of a model as the bytes that a GGUF file has for them. */
export class GgufWeightLoader implements Disposable {
  readonly #values: ModelValues;
  readonly #architecture: GgufArchitecture;
  readonly #config: ModelConfig;
  readonly #signal: AbortSignal | undefined;
  readonly #quantizer = new KQuantizer();

  constructor(values: ModelValues, architecture: GgufArchitecture, config: ModelConfig, signal?: AbortSignal) {
    this.#values = values;
    this.#architecture = architecture;
    this.#config = config;
    this.#signal = signal;
  }

  /** A weight, to be written in a type. Dispose it. */
  async load(weight: StoredWeight, type: GgmlType): Promise<LoadedWeight> {
    this.#signal?.throwIfAborted();
    const isStored = !this.#values.isLoaded(weight.name);
    if (weight.kind === "ggml" && weight.type === type && isStored) {
      const bytes = await this.#values.stored.bytes(weight.info);
      return onHost(async (give) => give(this.#ordered(weight, bytes)));
    }
    const kType = kFormat(type);
    if (kType) return this.#loadForBlocks(weight, kType, type, isStored);
    const dtype = plainTypes[type.name];
    const bytes = await this.#values.bytes(weight, dtype ?? float32);
    if (dtype) return onHost(async (give) => give(this.#ordered(weight, this.#normed(weight, bytes))));
    const rows = this.#ordered(weight, bytes);
    return onHost((give) =>
      this.#writeBlocks(new Float32Array(rows.buffer, rows.byteOffset, rows.length / 4), type, give),
    );
  }

  async #loadForBlocks(
    weight: StoredWeight,
    format: KFormat,
    type: GgmlType,
    isStored: boolean,
  ): Promise<LoadedWeight> {
    const x = await this.#values.load(weight, weight.kind === "plain" && isStored ? weight.dtype : float32);
    const quantize = (give: (bytes: Uint8Array) => void) =>
      this.#quantizer.quantize(weight.name, x, format, give, this.#signal);
    return {
      write: async (give) => {
        if (!this.#isInterleaved(weight)) return quantize(give);
        const whole = new Uint8Array(ggmlBytes(type, elementCount(weight.shape)));
        let done = 0;
        await quantize((bytes) => {
          whole.set(bytes, done);
          done += bytes.length;
        });
        give(this.#ordered(weight, whole));
      },
      [Symbol.dispose]: () => x.dispose(),
    };
  }

  async #writeBlocks(values: Float32Array, type: GgmlType, give: (bytes: Uint8Array) => void): Promise<void> {
    for (let begin = 0; begin < values.length; begin += sliceElements) {
      this.#signal?.throwIfAborted();
      give(quantizeGgml(type, values.subarray(begin, begin + sliceElements)));
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  #isInterleaved({ name }: StoredWeight): boolean {
    return this.#architecture.interleavedRotary === true && /\.self_attn\.[qk]_proj\./.test(name);
  }

  /** The order of rows in the file: numbers and blocks alike, since rows move whole. */
  #ordered(weight: StoredWeight, bytes: Uint8Array): Uint8Array {
    if (!this.#isInterleaved(weight)) return bytes;
    return interleaveRows(this.#config.headDim, bytes.length / weight.shape[0]!).apply(bytes);
  }

  /** Gemma's norms, in float32, with the one that checkpoints leave to the model. */
  #normed({ name }: StoredWeight, bytes: Uint8Array): Uint8Array {
    if (!this.#architecture.normsPlusOne || !name.endsWith("norm.weight")) return bytes;
    const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
    return new Uint8Array(values.map((weight) => weight + 1).buffer);
  }

  /** Gives back what quantizing has in page-locked memory. */
  dispose(): void {
    this.#quantizer.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function onHost(write: LoadedWeight["write"]): LoadedWeight {
  return { write, [Symbol.dispose]: () => {} };
}
