import { float32 } from "../../base/dtype.ts";
import { FormatError, UnsupportedError } from "../../base/errors.ts";
import { formatShape } from "../../base/shape.ts";
import type { LoraAdapter, LoraModule, TokenRows } from "../../formats/peft/adapter.ts";
import type { StoredWeight } from "../../formats/stored/stored-weights.ts";
import type { TensorInfo } from "../../formats/weight-source.ts";
import { changesNothing, hasEffect } from "../../nn/lora/effect.ts";
import { addLowRank, addScaled } from "../../nn/lora/low-rank.ts";
import { noBias, rescale } from "../../nn/lora/merge.ts";
import { plainName } from "../../nn/lora/places.ts";
import { checkRows, placeRows } from "../../nn/lora/token-rows.ts";
import { Tensor } from "../../tensor/tensor.ts";
import type { WeightChange } from "./model-values.ts";
import { isHead, savesHeadTwice } from "./tied-head.ts";

/**
 * An adapter as a change of a checkpoint's weights, one at a time: whatever they are stored in, float32 values get scale · B · A
 * added (with DoRA they are brought to their magnitude), or give way to those that were trained whole or row by row.
 */
export class AdapterChange implements WeightChange {
  readonly #adapter: LoraAdapter;
  readonly #modules = new Map<string, LoraModule>();
  readonly #replaced = new Map<string, TensorInfo>();
  readonly #biases = new Map<string, LoraModule>();
  readonly #rows = new Map<string, TokenRows>();

  /**
   * Finds the weights of everything in the adapter; `path` is the checkpoint's, for messages. Throws FormatError where shapes or
   * names are another model's, or nothing changes; UnsupportedError for a change of one of two weights that are one (`isTied`).
   */
  constructor(adapter: LoraAdapter, weights: readonly StoredWeight[], path: string, isTied: boolean) {
    this.#adapter = adapter;
    if (!hasEffect(adapter) && adapter.replaced.size + adapter.tokens.length === 0) throw changesNothing(adapter);
    const byName = new Map(weights.map((weight) => [plainName(weight.name), weight]));
    const missing = (name: string) =>
      new FormatError(
        path,
        `${path} has no weight "${name}", which the adapter in ${adapter.directory} works on; it was trained on another base`,
      );
    // Of one weight that was saved as two, the embedding's stands for both.
    const isTwice = isTied && savesHeadTwice(adapter);
    const isLeftOut = (name: string) => isTwice && isHead(name);
    const refuseTied = (name: string): void => {
      if (!isTied || isTwice || !/^(lm_head|embed_tokens)\./.test(plainName(name))) return;
      throw new UnsupportedError(
        `${adapter.directory}: the adapter changes "${name}", which in the base is one weight with the other of head and embedding; apply it at run time instead`,
      );
    };
    const find = (name: string): StoredWeight => {
      const plain = plainName(name);
      refuseTied(name);
      const weight = byName.get(plain);
      if (weight) return weight;
      throw missing(name);
    };
    for (const module of adapter.modules.values()) {
      if (module.kind === "experts") {
        throw new UnsupportedError(
          `${adapter.directory}: the adapter changes all experts of "${module.name}" together (target_parameters), which is not written weight by weight; load the model with the adapter and savePretrained it`,
        );
      }
      const weight = find(`${module.name}.weight`);
      const [rows, cols] = module.kind === "embedding" ? [module.a, module.b] : [module.b, module.a];
      const made = module.kind === "embedding" ? [rows.shape[1]!, cols.shape[0]!] : [rows.shape[0]!, cols.shape[1]!];
      checkShape(module.b, made, weight);
      this.#modules.set(weight.name, module);
      if (!module.bias) continue;
      const bias = byName.get(plainName(`${module.name}.bias`));
      if (!bias) throw noBias(adapter.directory, module.name);
      checkShape(module.bias, module.bias.shape, bias);
      this.#biases.set(bias.name, module);
    }
    for (const [name, info] of adapter.replaced) {
      if (isLeftOut(name)) continue;
      const weight = find(name);
      checkShape(info, info.shape, weight);
      this.#replaced.set(weight.name, info);
    }
    for (const rows of adapter.tokens) {
      const name = `${rows.name}.weight`;
      if (isLeftOut(name)) continue;
      // Those of the embedding are for the head as well, where it is the same weight and has none of its own.
      if (adapter.tokens.some((other) => isHead(other.name))) refuseTied(name);
      const weight = byName.get(plainName(name));
      if (!weight) throw missing(name);
      checkRows(adapter, rows, weight.shape);
      this.#rows.set(weight.name, rows);
    }
  }

  has(name: string): boolean {
    return [this.#modules, this.#replaced, this.#biases, this.#rows].some((part) => part.has(name));
  }

  apply(name: string, values: Tensor): void {
    const whole = this.#replaced.get(name);
    if (whole) {
      using own = this.#load(whole, values);
      values.copy_(own);
    }
    const tokens = this.#rows.get(name);
    if (tokens) {
      using rows = this.#load(tokens.rows, values);
      placeRows(values, rows, tokens.tokens);
    }
    const biased = this.#biases.get(name);
    if (biased) {
      using bias = this.#load(biased.bias!, values);
      addScaled(values, bias, biased.scale);
    }
    const module = this.#modules.get(name);
    if (!module) return;
    const { scale, kind } = module;
    using a = this.#load(module.a, values);
    using b = this.#load(module.b, values);
    using magnitude = module.magnitude && this.#load(module.magnitude, values);
    if (kind === "embedding") {
      using left = a.transpose(0, 1);
      using right = b.transpose(0, 1);
      addLowRank(values, { left, right, scale });
    } else {
      addLowRank(values, { left: b, right: a, scale }, magnitude && ((sums, first) => rescale(sums, magnitude, first)));
    }
  }

  #load({ name, elementType, shape }: TensorInfo, { device }: Tensor): Tensor {
    // A copy: tensors need not lie at multiples of their elements.
    const bytes = this.#adapter.source.read(name).slice();
    const stored = Tensor.from(elementType!.view(bytes), { dtype: elementType!, device, shape });
    if (elementType === float32) return stored;
    using _ = stored;
    return stored.to(float32);
  }
}

function checkShape(info: TensorInfo, shape: readonly number[], weight: StoredWeight): void {
  if (formatShape(shape) === formatShape(weight.shape)) return;
  throw new FormatError(
    info.file,
    `${info.file}: "${info.name}" makes a change of shape ${formatShape(shape)}, but ${weight.name} of the base is ${formatShape(weight.shape)}; the adapter was trained on another base`,
  );
}
