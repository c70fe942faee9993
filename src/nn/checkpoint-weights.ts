import type { DType } from "../base/dtype.ts";
import { FormatError } from "../base/errors.ts";
import { elementCount, formatShape, type Shape } from "../base/shape.ts";
import type { Device } from "../driver/device.ts";
import type { TensorInfo, WeightSource } from "../formats/weight-source.ts";
import { Tensor } from "../tensor/tensor.ts";
import { join, stackedShape, type Weights } from "./weights.ts";

/** One tensor of the checkpoint and the place on the device where its elements belong. */
export interface Upload {
  readonly info: TensorInfo;
  /** The dtype of its elements. */
  readonly from: DType;
  readonly target: Tensor;
  /** In elements of `target`, which is contiguous. */
  readonly targetOffset: number;
}

/**
 * Parameters from a checkpoint. Asking for a tensor allocates it and notes an upload; nothing is read before all are
 * known, so that a wrong checkpoint or too little memory shows at once, and the files are then read once, in order.
 */
export class CheckpointWeights implements Weights {
  readonly device: Device;
  readonly dtype: DType;
  readonly source: WeightSource;
  readonly uploads: Upload[];
  /** Of the checkpoint, for messages. */
  readonly path: string;
  readonly #prefix: string;

  constructor(path: string, source: WeightSource, device: Device, dtype: DType, prefix = "", uploads: Upload[] = []) {
    this.path = path;
    this.source = source;
    this.device = device;
    this.dtype = dtype;
    this.uploads = uploads;
    this.#prefix = prefix;
  }

  at(name: string): CheckpointWeights {
    return new CheckpointWeights(
      this.path,
      this.source,
      this.device,
      this.dtype,
      join(this.#prefix, name),
      this.uploads,
    );
  }

  has(name: string): boolean {
    return this.source.tensors.has(join(this.#prefix, name));
  }

  tensor(name: string, shape: Shape): Tensor {
    return this.stacked([{ name, shape }]);
  }

  stacked(parts: readonly { readonly name: string; readonly shape: Shape }[], shape = stackedShape(parts)): Tensor {
    const infos = parts.map((part) => this.#find(part.name, part.shape));
    const target = Tensor.empty(shape, { dtype: this.dtype, device: this.device });
    let targetOffset = 0;
    for (const { info, from } of infos) {
      this.uploads.push({ info, from, target, targetOffset });
      targetOffset += elementCount(info.shape);
    }
    return target;
  }

  /** Names in the checkpoint that no layer asked for. */
  unused(): string[] {
    const used = new Set(this.uploads.map((upload) => upload.info.name));
    return [...this.source.tensors.keys()].filter((name) => !used.has(name));
  }

  #find(name: string, shape: Shape): { info: TensorInfo; from: DType } {
    const path = join(this.#prefix, name);
    const info = this.source.tensors.get(path);
    if (!info) {
      const near = [...this.source.tensors.keys()].filter((key) => key.endsWith(name)).slice(0, 3);
      throw new FormatError(
        this.path,
        `${this.path} has no tensor "${path}" ${formatShape(shape)} that its config calls for${near.length ? ` (it has ${near.join(", ")})` : ""}; is the checkpoint complete?`,
      );
    }
    if (info.shape.length !== shape.length || info.shape.some((size, i) => size !== shape[i])) {
      throw new FormatError(
        info.file,
        `${info.file}: tensor "${path}" is ${formatShape(info.shape)}, but the config calls for ${formatShape(shape)}; config.json and the weights do not belong together`,
      );
    }
    const from = info.elementType;
    if (!from?.isFloat) {
      throw new FormatError(
        info.file,
        `${info.file}: tensor "${path}" has type ${info.dtype}; this version reads float32, float16 and bfloat16 weights`,
      );
    }
    return { info, from };
  }
}
