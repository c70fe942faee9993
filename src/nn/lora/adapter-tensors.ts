import { type DType, float32 } from "../../base/dtype.ts";
import type { Device } from "../../driver/device.ts";
import type { LoraAdapter, LoraModule } from "../../formats/peft/adapter.ts";
import type { TensorInfo } from "../../formats/weight-source.ts";
import type { LoraEntry } from "../../kernels/lora/lora.ts";
import type { QuantizedWeight } from "../../tensor/quantized-weight.ts";
import { Tensor } from "../../tensor/tensor.ts";
import type { Upload } from "../checkpoint-weights.ts";
import type { Embedding } from "../embedding.ts";
import { Linear } from "../linear.ts";
import type { Projection } from "../projection.ts";
import { QuantizedLinear } from "../quantized-linear.ts";
import { type UploadOptions, uploadWeights } from "../upload.ts";
import { changesNothing, hasEffect } from "./effect.ts";
import type { FittedAdapter, FittedModule, FittedWeight } from "./fit.ts";
import { addLowRank } from "./low-rank.ts";
import { MergeOnlyError } from "./merge-only-error.ts";
import type { Place } from "./places.ts";

/** An adapter in device memory: A and B of its modules, and whole weights where it has them. */
export class AdapterTensors implements Disposable {
  /** For each projection, an entry for each part that is adapted. */
  readonly entries = new Map<Projection, (LoraEntry | undefined)[]>();
  /** Projections and tables that take the place of the base's. */
  readonly projections = new Map<Projection, Linear>();
  readonly tables = new Map<Embedding, Tensor>();
  /** The largest rank of `entries`. */
  maxRank = 0;
  readonly #owned: Tensor[] = [];
  readonly #device: Device;
  readonly #dtype: DType;

  /**
   * Uploads an adapter that was found to fit. A and B are kept in `dtype`, as the base is; so is an embedding with a
   * low-rank change, as a table of its own. Throws FormatError for an adapter that changes nothing, UnsupportedError for
   * one that can only be merged.
   */
  static async load(
    adapter: LoraAdapter,
    fitted: FittedAdapter,
    place: { device: Device; dtype: DType },
    options: UploadOptions = {},
  ): Promise<AdapterTensors> {
    refuseUnlessRunnable(adapter, fitted);
    const isEffective = hasEffect(adapter);
    const tensors = new AdapterTensors(place.device, place.dtype);
    try {
      const uploads: Upload[] = [];
      for (const weight of fitted.replaced) tensors.#replace(weight, uploads);
      const unfinished = fitted.modules
        .map((module) => tensors.#place(module, uploads))
        .filter((finish) => finish !== undefined);
      await uploadWeights(adapter.source, uploads, place.device, options);
      if (!isEffective && !tensors.#differs()) throw changesNothing(adapter);
      for (const finish of unfinished) finish();
      return tensors;
    } catch (error) {
      tensors.dispose();
      throw error;
    }
  }

  private constructor(device: Device, dtype: DType) {
    this.#device = device;
    this.#dtype = dtype;
  }

  /** Whether the network has to run with other weights for this adapter, so that no batch can mix it with others. */
  get replacesWeights(): boolean {
    return this.projections.size > 0 || this.tables.size > 0;
  }

  get sizeBytes(): number {
    return this.#owned.reduce((sum, tensor) => sum + tensor.sizeBytes, 0);
  }

  #upload(info: TensorInfo, uploads: Upload[], dtype = this.#dtype): Tensor {
    const target = this.#own(Tensor.empty(info.shape, { dtype, device: this.#device }));
    uploads.push({ info, from: info.elementType!, target, targetOffset: 0 });
    return target;
  }

  /** Returns what is left to do when the values have arrived. */
  #place({ module, place }: FittedModule, uploads: Upload[]): (() => void) | undefined {
    const { scale } = module;
    if (place.kind === "projection" && !this.projections.has(place.projection)) {
      this.#adapt(module, place, this.#upload(module.a, uploads), this.#upload(module.b, uploads));
      return undefined;
    }
    const a = this.#upload(module.a, uploads, float32);
    const b = this.#upload(module.b, uploads, float32);
    if (place.kind === "projection") {
      const { projection } = place;
      return () => {
        const own = this.projections.get(projection)!;
        if (!isSame(projection instanceof Linear ? projection.weight : undefined, own.weight)) {
          addLowRank(own.weight, { left: b, right: a, scale });
          return;
        }
        // PEFT saves the head along with an adapter on it, trained or not.
        this.projections.delete(projection);
        this.#adapt(module, place, this.#own(a.to(this.#dtype)), this.#own(b.to(this.#dtype)));
      };
    }
    if (place.kind !== "embedding") return undefined; // refused: see refuseUnlessRunnable
    return () => {
      const { embedding } = place;
      const table = this.tables.get(embedding) ?? copyOf(embedding.weight, this.#dtype);
      if (!this.tables.has(embedding)) this.#owned.push(table);
      this.tables.set(embedding, table);
      using left = a.transpose(0, 1);
      using right = b.transpose(0, 1);
      addLowRank(table, { left, right, scale });
    };
  }

  #adapt({ rank, scale }: LoraModule, place: Place & { kind: "projection" }, a: Tensor, b: Tensor): void {
    const { projection, part, begin, rows: width } = place;
    const entries = this.entries.get(projection) ?? projection.stacks.map(() => undefined);
    entries[part] = { a: a.ptr, b: b.ptr, rank, scale, begin, width };
    this.entries.set(projection, entries);
    this.maxRank = Math.max(this.maxRank, rank);
  }

  #own(tensor: Tensor): Tensor {
    this.#owned.push(tensor);
    return tensor;
  }

  #replace({ info, place }: FittedWeight, uploads: Upload[]): void {
    const weight = this.#upload(info, uploads);
    if (place.kind === "embedding") this.tables.set(place.embedding, weight);
    if (place.kind === "projection")
      this.projections.set(place.projection, new Linear(weight, biasOf(place.projection), { fixed: true }));
  }

  /** Whether a replaced weight is another than the base's. */
  #differs(): boolean {
    const pairs = [
      ...[...this.projections].map(([base, own]) => [base instanceof Linear && base.weight, own.weight] as const),
      ...[...this.tables].map(([base, own]) => [base.weight, own] as const),
    ];
    return pairs.some(([base, own]) => !isSame(base instanceof Tensor ? base : undefined, own));
  }

  dispose(): void {
    for (const tensor of this.#owned) tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Whether a trained weight is the base's after all; never that of a quantized base (undefined), whose numbers are others. */
function isSame(base: Tensor | undefined, own: Tensor): boolean {
  if (!base) return false;
  using difference = base.sub(own);
  using size = difference.abs();
  using largest = size.max();
  return largest.item() === 0;
}

function copyOf(weight: Tensor | QuantizedWeight, dtype: DType): Tensor {
  return weight instanceof Tensor ? weight.clone() : weight.dequantize(dtype);
}

function biasOf(projection: Projection): Tensor | undefined {
  const hasWeight = projection instanceof Linear || projection instanceof QuantizedLinear;
  return hasWeight ? projection.bias : undefined;
}

function refuseUnlessRunnable(adapter: LoraAdapter, { modules, replaced }: FittedAdapter): void {
  const mergeOnly = (what: string) => new MergeOnlyError(adapter.directory, what);
  if (modules.some(({ module }) => module.magnitude)) throw mergeOnly("the adapter uses DoRA (use_dora)");
  for (const { place } of [...modules, ...replaced]) {
    if (place.kind === "expert" || place.kind === "experts") throw mergeOnly("the adapter works on experts");
  }
  for (const { info, field, place } of replaced) {
    if (place.kind === "norm") throw mergeOnly(`the adapter trained a norm ("${info.name}")`);
    if (field === "bias") throw mergeOnly(`the adapter trained a bias ("${info.name}")`);
    if (place.kind === "projection" && place.projection.stacks.length > 1) {
      throw mergeOnly(`the adapter replaces "${info.name}", part of a projection that runs as one with others`);
    }
  }
}
