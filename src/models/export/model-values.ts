import { type DType, float16, float32 } from "../../base/dtype.ts";
import { UnsupportedError } from "../../base/errors.ts";
import type { StoredWeight } from "../../formats/stored/stored-weights.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { LoadedParameters } from "../loaded-parameters.ts";
import { hostBytes } from "./four-bit.ts";
import type { StoredValues } from "./stored-values.ts";

/** Changes weights while they are exported, by their names in the checkpoint. */
export interface WeightChange {
  has(name: string): boolean;
  /** Changes float32 values in the weight's shape, in place. */
  apply(name: string, values: Tensor): void;
}

/** Values of a model by the names of its checkpoint: those of the network, where one is loaded, else those of the file. */
export class ModelValues {
  readonly stored: StoredValues;
  readonly #loaded: ((name: string) => Tensor | undefined) | undefined;

  readonly #change: WeightChange | undefined;

  constructor(stored: StoredValues, loaded?: LoadedParameters, change?: WeightChange) {
    this.stored = stored;
    this.#change = change;
    this.#loaded = loaded?.current();
  }

  /** Whether a weight may be another than the file's: the network holds it, perhaps changed since it was loaded. */
  isLoaded(name: string): boolean {
    if (this.#change?.has(name)) return true;
    using tensor = this.#loaded?.(name);
    return tensor !== undefined;
  }

  /** Contiguous, in `dtype`. Dispose it. Throws UnsupportedError when values do not fit float16. */
  async load(weight: StoredWeight, dtype: DType): Promise<Tensor> {
    if (this.#change?.has(weight.name)) return this.#changed(weight, dtype, this.#change);
    const loaded = this.#loaded?.(weight.name);
    if (!loaded) return this.stored.load(weight, dtype);
    if (loaded.dtype === dtype) return loaded;
    using _ = loaded;
    return loaded.to(dtype);
  }

  async #changed(weight: StoredWeight, dtype: DType, change: WeightChange): Promise<Tensor> {
    const values = await this.stored.load(weight, float32);
    try {
      change.apply(weight.name, values);
      return dtype === float32 ? values.clone() : values.to(dtype);
    } finally {
      values.dispose();
    }
  }

  /** The elements on the host. */
  async bytes(weight: StoredWeight, dtype: DType): Promise<Uint8Array> {
    if (weight.kind === "plain" && !this.isLoaded(weight.name)) {
      return checked(weight.name, await this.stored.convert(weight, dtype), dtype);
    }
    using values = await this.load(weight, dtype);
    return checked(weight.name, hostBytes(values), dtype);
  }

  /** The same for a tensor of the network; `name` is for messages. */
  download(name: string, tensor: Tensor, dtype: DType): Uint8Array {
    if (tensor.dtype === dtype) return hostBytes(tensor);
    using values = tensor.to(dtype);
    return checked(name, hostBytes(values), dtype);
  }
}

/** A weight beyond float16 would come back infinite, and the model would answer nonsense. */
function checked(name: string, bytes: Uint8Array, dtype: DType): Uint8Array {
  if (dtype !== float16) return bytes;
  for (const half of dtype.view(bytes) as Uint16Array) {
    if ((half & 0x7fff) === 0x7c00) {
      throw new UnsupportedError(
        `${name}: it holds values beyond 65504, the largest of float16; choose bfloat16 or float32`,
      );
    }
  }
  return bytes;
}
