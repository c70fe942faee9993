import { type DType, float32 } from "../../base/dtype.ts";
import { UnsupportedError } from "../../base/errors.ts";
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
import type { FittedAdapter, FittedModule, FittedTokens, FittedWeight } from "./fit.ts";
import { addLowRank, addScaled } from "./low-rank.ts";
import { MergeOnlyError } from "./merge-only-error.ts";
import type { Place } from "./places.ts";
import type { BiasEntry } from "./projection-biases.ts";
import { placeRows } from "./token-rows.ts";

type ProjectionPlace = Extract<Place, { kind: "projection" }>;

/** An adapter in device memory: A and B of its modules, and whole weights where it has them. */
export class AdapterTensors implements Disposable {
  /** For each projection, an entry for each part that is adapted. */
  readonly entries = new Map<Projection, (LoraEntry | undefined)[]>();
  /** The same for biases of B, where there are any. */
  readonly biases = new Map<Projection, (BiasEntry | undefined)[]>();
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
   * low-rank change or rows of its own, as a table of its own. Throws FormatError for an adapter that changes nothing, UnsupportedError for
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
      const rows = fitted.tokens.map((tokens) => tensors.#replaceRows(tokens, uploads));
      const unfinished = fitted.modules
        .map((module) => tensors.#place(module, uploads))
        .filter((finish) => finish !== undefined);
      await uploadWeights(adapter.source, uploads, place.device, options);
      for (const place of rows) place();
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
      if (module.bias) this.#addBias(place, scale, module.bias, uploads);
      return undefined;
    }
    const a = this.#upload(module.a, uploads, float32);
    const b = this.#upload(module.b, uploads, float32);
    if (place.kind === "projection") {
      const { projection } = place;
      const bias = module.bias && this.#upload(module.bias, uploads, float32);
      return () => {
        const own = this.#unshared(projection);
        if (bias) this.#biasOf(own, scale, bias);
        if (!isSame(projection instanceof Linear ? projection.weight : undefined, own.weight)) {
          addLowRank(own.weight, { left: b, right: a, scale });
          return;
        }
        if (bias) {
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

  #addBias(
    { projection, part, begin, rows: width }: ProjectionPlace,
    scale: number,
    info: TensorInfo,
    uploads: Upload[],
  ) {
    const biases = this.biases.get(projection) ?? projection.stacks.map(() => undefined);
    const exact = this.#upload(info, uploads, float32);
    const own = this.#dtype === float32 ? exact : this.#upload(info, uploads);
    biases[part] = { own, exact, scale, begin, width };
    this.biases.set(projection, biases);
  }

  #adapt({ rank, scale }: LoraModule, place: ProjectionPlace, a: Tensor, b: Tensor): void {
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
    if (place.kind === "projection") this.#replaceWith(place.projection, weight);
  }

  /** Gives the places of some rows a copy of the base's matrix, one that they share where they shared that; returns what puts the rows in. */
  #replaceRows({ rows: { rows, tokens }, places }: FittedTokens, uploads: Upload[]): () => void {
    const values = this.#upload(rows, uploads);
    const tables = new Set<Tensor>();
    let shared: Tensor | undefined;
    const copy = (base: Tensor | QuantizedWeight) => {
      shared ??= this.#own(copyOf(base, this.#dtype));
      return shared;
    };
    for (const place of places) {
      if (place.kind === "embedding") {
        const { embedding } = place;
        if (!this.tables.has(embedding)) this.tables.set(embedding, copy(embedding.weight));
        tables.add(this.tables.get(embedding)!);
      } else {
        const { projection } = place;
        if (!this.projections.has(projection)) this.#replaceWith(projection, copy(weightOf(projection)));
        tables.add(this.projections.get(projection)!.weight);
      }
    }
    return () => {
      for (const table of tables) placeRows(table, values, tokens);
    };
  }

  #replaceWith(projection: Projection, weight: Tensor): void {
    this.projections.set(projection, new Linear(weight, biasOf(projection), { fixed: true }));
  }

  /** Gives a projection of the adapter a bias of its own: the base's, if there is one, and scale · bias. */
  #biasOf(own: Linear, scale: number, bias: Tensor): void {
    const { device, dtype } = own.weight;
    own.bias = this.#own(own.bias ? own.bias.clone() : Tensor.zeros(bias.shape, { dtype, device }));
    addScaled(own.bias, bias, scale);
  }

  /** A projection of the adapter, with a weight that no table is. */
  #unshared(projection: Projection): Linear {
    const own = this.projections.get(projection)!;
    if ([...this.tables.values()].includes(own.weight)) own.weight = this.#own(own.weight.clone());
    return own;
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

function weightOf(projection: Projection): Tensor | QuantizedWeight {
  if (projection instanceof Linear || projection instanceof QuantizedLinear) return projection.weight;
  throw new UnsupportedError(`${projection.stacks[0]?.name}: it is no single matrix, so it has no rows of tokens`);
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
