import { elementCount } from "../base/shape.ts";
import type { Upload } from "../nn/checkpoint-weights.ts";
import type { Module } from "../nn/module.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** Where a tensor of the checkpoint is in the network: from an element of a parameter on. */
interface Place {
  /** As `namedParameters` spells it. */
  readonly parameter: string;
  readonly offset: number;
  readonly shape: readonly number[];
}

/** The head's weight and the embedding's, as `namedParameters` spells them. */
const headParameter = "head.weight";
const embeddingParameter = "embedding.weight";

/**
 * A loaded network under the names of its checkpoint: what loading put side by side (queries, keys and values; gate and up;
 * experts) comes apart again. Parameters are looked up when they are asked for, so changed ones are found. What is quantized on
 * the device, or was dequantized on the way there, is not among them.
 */
export class LoadedParameters {
  readonly #network: Module;
  readonly #places = new Map<string, Place>();
  readonly #wasTied: boolean;

  constructor(network: Module, uploads: readonly Upload[]) {
    this.#network = network;
    const names = new Map<Tensor, string>();
    for (const [name, tensor] of network.namedParameters()) if (!names.has(tensor)) names.set(tensor, name);
    this.#wasTied = this.#isTied();
    for (const upload of uploads) {
      if (upload.queued) continue; // something else is made of it, and its target is gone
      const { info, target, targetOffset } = upload;
      const parameter = names.get(target);
      if (parameter !== undefined) {
        this.#places.set(info.name, { parameter, offset: targetOffset, shape: info.shape });
      }
    }
  }

  /** The head's weight, a parameter of the network, where it was the embedding's when the model was loaded and is no more. */
  get untiedHead(): Tensor | undefined {
    return this.#wasTied && !this.#isTied() ? new Map(this.#network.namedParameters()).get(headParameter) : undefined;
  }

  #isTied(): boolean {
    const parameters = new Map(this.#network.namedParameters());
    const embedding = parameters.get(embeddingParameter);
    return embedding !== undefined && parameters.get(headParameter) === embedding;
  }

  /** All that can be looked up now: views, which hold no memory of their own once disposed. */
  current(): (name: string) => Tensor | undefined {
    const parameters = new Map(this.#network.namedParameters());
    return (name) => {
      const place = this.#places.get(name);
      const parameter = place && parameters.get(place.parameter);
      if (!parameter) return undefined;
      using flat = parameter.view(-1);
      using part = flat.narrow(0, place.offset, elementCount(place.shape));
      return part.view([...place.shape]);
    };
  }
}
