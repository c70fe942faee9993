import type { DType } from "../base/dtype.ts";
import type { TensorInfo } from "../formats/weight-source.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** One tensor of the checkpoint and the place on the device where its elements belong. */
export interface Upload {
  readonly info: TensorInfo;
  /** The dtype of its elements; bytes of blocks are uint8. */
  readonly from: DType;
  readonly target: Tensor;
  /** In elements of `target`, which is contiguous. */
  readonly targetOffset: number;
  /** Called in stream order when so many bytes of it have been queued to the device. */
  readonly queued?: ((bytes: number) => void) | undefined;
}

/**
 * Uploads that go to memory of their own first, from which something is then made: the memory is allocated when the first
 * byte comes, `finish` runs when the last is queued, and the memory goes back.
 */
export class UploadGroup {
  readonly uploads: Upload[] = [];
  readonly #allocate: () => Tensor;
  readonly #finish: (values: Tensor) => void;
  #values: Tensor | undefined;
  #missingBytes = 0;

  constructor(allocate: () => Tensor, finish: (values: Tensor) => void) {
    this.#allocate = allocate;
    this.#finish = finish;
  }

  add(info: TensorInfo, from: DType, targetOffset: number): void {
    this.#missingBytes += info.byteLength;
    const target = (): Tensor => {
      this.#values ??= this.#allocate();
      return this.#values;
    };
    const upload: Upload = {
      info,
      from,
      get target() {
        return target();
      },
      targetOffset,
      queued: (bytes) => this.#queued(bytes),
    };
    this.uploads.push(upload);
  }

  #queued(bytes: number): void {
    this.#missingBytes -= bytes;
    if (this.#missingBytes > 0 || !this.#values) return;
    this.#finish(this.#values);
    this.#values.dispose();
    this.#values = undefined;
  }
}
