import type { DType } from "../base/dtype.ts";
import { FormatError } from "../base/errors.ts";
import { elementCount, formatShape, type Shape } from "../base/shape.ts";
import { ptrAdd } from "../driver/api.ts";
import type { Device } from "../driver/device.ts";
import { type StoredWeight, storedTypeName, storedWeights } from "../formats/stored/stored-weights.ts";
import type { WeightSource } from "../formats/weight-source.ts";
import { QuantizedWeight, type QuantizeOptions } from "../tensor/quantized-weight.ts";
import { Tensor } from "../tensor/tensor.ts";
import { dequantizeInto, groupStored, matrixShape, type QuantizedStored, quantizedMatrix } from "./stored-matrix.ts";
import { type Upload, UploadGroup } from "./upload-plan.ts";
import { expertsEndWithBlock, join, type MatrixPart, stackedShape, type Weights } from "./weights.ts";

export type { Upload } from "./upload-plan.ts";

/** What all views of one checkpoint share. */
interface Checkpoint {
  /** For messages. */
  readonly path: string;
  readonly source: WeightSource;
  readonly device: Device;
  readonly dtype: DType;
  /** Matrices that are stored in 16 or 32 bits become this on the way. */
  readonly quantize: QuantizeOptions | undefined;
  readonly stored: ReadonlyMap<string, StoredWeight>;
  readonly uploads: Upload[];
  readonly used: Set<string>;
  readonly mixedExperts: MixedExperts[];
}

export interface MixedExperts {
  /** Of the first expert's weight. */
  readonly name: string;
  readonly types: ReadonlySet<string>;
}

/**
 * Parameters from a checkpoint. Asking for a tensor allocates it and notes an upload; nothing is read before all are
 * known, so that a wrong checkpoint or too little memory shows at once, and the files are then read once, in order.
 * What a weight is, is decided by the tensors that the file holds for it.
 */
export class CheckpointWeights implements Weights {
  readonly #of: Checkpoint;
  readonly prefix: string;

  private constructor(of: Checkpoint, prefix: string) {
    this.#of = of;
    this.prefix = prefix;
  }

  /** `path` is for messages; `dtype` what parameters become that are not quantized. */
  static open(
    path: string,
    source: WeightSource,
    device: Device,
    dtype: DType,
    quantize?: QuantizeOptions,
  ): CheckpointWeights {
    const stored = storedWeights(source);
    return new CheckpointWeights(
      { path, source, device, dtype, quantize, stored, uploads: [], used: new Set(), mixedExperts: [] },
      "",
    );
  }

  get path(): string {
    return this.#of.path;
  }

  get device(): Device {
    return this.#of.device;
  }

  get dtype(): DType {
    return this.#of.dtype;
  }

  get uploads(): readonly Upload[] {
    return this.#of.uploads;
  }

  at(name: string): CheckpointWeights {
    return new CheckpointWeights(this.#of, join(this.prefix, name));
  }

  has(name: string): boolean {
    return this.#of.stored.has(join(this.prefix, name));
  }

  tensor(name: string, shape: Shape): Tensor {
    return this.stacked([{ name, shape }]);
  }

  stacked(parts: readonly { readonly name: string; readonly shape: Shape }[], shape = stackedShape(parts)): Tensor {
    const { device, dtype, uploads } = this.#of;
    const found = parts.map((part) => this.#find(part.name, part.shape));
    const target = Tensor.empty(shape, { dtype, device });
    let offset = 0;
    for (const weight of found) {
      if (weight.kind === "plain")
        uploads.push({ info: weight.info, from: weight.dtype, target, targetOffset: offset });
      else
        uploads.push(...dequantizeInto(weight, target.ptr && ptrAdd(target.ptr, offset * dtype.bytes), dtype, device));
      offset += elementCount(weight.shape);
    }
    return target;
  }

  matrices(parts: readonly MatrixPart[], keep?: "keep"): (Tensor | QuantizedWeight)[] {
    const { device, dtype, quantize, uploads } = this.#of;
    const found = parts.map((part) => this.#find(part.name, part.shape));
    let first = 0;
    return groupStored(found, keep !== undefined).map((group) => {
      const mine = parts.slice(first, first + group.length);
      first += group.length;
      if (group[0]!.kind !== "plain") {
        const made = quantizedMatrix(group as QuantizedStored[], device);
        uploads.push(...made.uploads);
        return made.weight;
      }
      if (!quantize || keep) return this.stacked(mine);
      const made = quantizeOnTheWay(group, quantize, device, dtype);
      uploads.push(...made.uploads);
      return made.weight;
    });
  }

  experts(
    parts: readonly { readonly name: string; readonly shape: Shape }[],
    shape: readonly [experts: number, n: number, k: number],
  ): Tensor | QuantizedWeight {
    const { device, dtype, quantize, uploads, mixedExperts } = this.#of;
    const found = parts.map((part) => asMatrix(this.#find(part.name, part.shape)));
    const groups = groupStored(found, false);
    const { kind } = found[0]!;
    if (groups.length === 1 && kind === "plain" && quantize && expertsEndWithBlock(shape, quantize.blockSize)) {
      const made = quantizeOnTheWay(found, quantize, device, dtype);
      uploads.push(...made.uploads);
      return made.weight;
    }
    if (groups.length === 1 && kind !== "plain" && holdsExperts(found[0] as QuantizedStored, shape)) {
      const made = quantizedMatrix(found as QuantizedStored[], device, "float32 absmax");
      uploads.push(...made.uploads);
      return made.weight;
    }
    if (found.some((weight) => weight.kind !== "plain")) {
      mixedExperts.push({ name: join(this.prefix, parts[0]!.name), types: new Set(found.map(storedTypeName)) });
    }
    return this.stacked(parts, shape);
  }

  /** Experts that are stored quantized, but not so that one weight can hold them: they were dequantized. */
  get mixedExperts(): readonly MixedExperts[] {
    return this.#of.mixedExperts;
  }

  /** Names in the checkpoint that no layer asked for. */
  unused(): string[] {
    return [...this.#of.stored.keys()].filter((name) => !this.#of.used.has(name));
  }

  #find(name: string, shape: Shape): Exclude<StoredWeight, { kind: "unknown" }> {
    const { path: checkpoint, stored, used } = this.#of;
    const path = join(this.prefix, name);
    const weight = stored.get(path);
    if (!weight) {
      const near = [...stored.keys()].filter((key) => key.endsWith(name)).slice(0, 3);
      throw new FormatError(
        checkpoint,
        `${checkpoint} has no tensor "${path}" ${formatShape(shape)} that its config calls for${near.length ? ` (it has ${near.join(", ")})` : ""}; is the checkpoint complete?`,
      );
    }
    const file = weight.kind === "bnb4" ? weight.packed.file : weight.info.file;
    if (weight.shape.length !== shape.length || weight.shape.some((size, i) => size !== shape[i])) {
      throw new FormatError(
        file,
        `${file}: tensor "${path}" is ${formatShape(weight.shape)}, but the config calls for ${formatShape(shape)}; config.json and the weights do not belong together`,
      );
    }
    if (weight.kind === "unknown" || (weight.kind === "plain" && !weight.dtype.isFloat)) {
      throw new FormatError(
        file,
        `${file}: tensor "${path}" has type ${storedTypeName(weight)}; this version reads float32, float16, bfloat16, NF4, FP4 and GGML weights`,
      );
    }
    used.add(path);
    return weight;
  }
}

/**
 * Quantizes plain matrices as soon as their bytes are on the device; what they were is allocated when the first of them come
 * and freed then, so that a model never needs the memory of its 16-bit form. One by one, where blocks end with each.
 */
function quantizeOnTheWay(
  parts: readonly StoredWeight[],
  options: QuantizeOptions,
  device: Device,
  dtype: DType,
): { weight: QuantizedWeight; uploads: Upload[] } {
  const weight = QuantizedWeight.reserve(matrixShape(parts), dtype, device, options);
  const apart = parts.every((part) => elementCount(part.shape) % (options.blockSize ?? 64) === 0);
  const uploads: Upload[] = [];
  let row = 0;
  for (const group of apart ? parts.map((part) => [part]) : [parts]) {
    const shape = matrixShape(group);
    const first = row;
    row += shape[0];
    const whole = new UploadGroup(
      () => Tensor.empty(shape, { dtype, device, tag: "weight to be quantized" }),
      (values) => weight.fill(values, first),
    );
    let offset = 0;
    for (const part of group) {
      if (part.kind !== "plain") continue;
      whole.add(part.info, part.dtype, offset);
      offset += elementCount(part.shape);
    }
    uploads.push(...whole.uploads);
  }
  return { weight, uploads };
}

/** Of three dimensions or more, all but the last are rows. */
function asMatrix<W extends StoredWeight>(weight: W): W {
  const k = weight.shape.at(-1)!;
  return { ...weight, shape: [elementCount(weight.shape) / k, k] };
}

function holdsExperts(weight: QuantizedStored, shape: readonly [number, number, number]): boolean {
  return weight.kind === "ggml" || expertsEndWithBlock(shape, weight.blockSize);
}
