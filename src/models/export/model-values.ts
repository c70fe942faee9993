import { type DType, float16 } from "../../base/dtype.ts";
import { UnsupportedError } from "../../base/errors.ts";
import type { StoredWeight } from "../../formats/stored/stored-weights.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { LoadedParameters } from "../loaded-parameters.ts";
import { hostBytes } from "./four-bit.ts";
import type { StoredValues } from "./stored-values.ts";

/** Values of a model by the names of its checkpoint: those of the network, where one is loaded, else those of the file. */
export class ModelValues {
  readonly stored: StoredValues;
  readonly #loaded: ((name: string) => Tensor | undefined) | undefined;

  constructor(stored: StoredValues, loaded?: LoadedParameters) {
    this.stored = stored;
    this.#loaded = loaded?.current();
  }

  /** Whether the network holds a weight itself, perhaps changed since it was loaded. */
  isLoaded(name: string): boolean {
    using tensor = this.#loaded?.(name);
    return tensor !== undefined;
  }

  /** Contiguous, in `dtype`. Dispose it. Throws UnsupportedError when values do not fit float16. */
  async load(weight: StoredWeight, dtype: DType): Promise<Tensor> {
    const loaded = this.#loaded?.(weight.name);
    if (!loaded) return this.stored.load(weight, dtype);
    if (loaded.dtype === dtype) return loaded;
    using _ = loaded;
    return loaded.to(dtype);
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
