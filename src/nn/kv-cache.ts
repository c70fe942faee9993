import type { DType } from "../base/dtype.ts";
import type { Device } from "../driver/device.ts";
import { Tensor } from "../tensor/tensor.ts";

/** Tokens in one block of the paged cache. */
export const blockSize = 16;

export interface KvCacheShape {
  readonly layers: number;
  /** Key/value heads, G. */
  readonly kvHeads: number;
  /** D. */
  readonly headDim: number;
  readonly dtype: DType;
}

/** Bytes of keys and values that one token takes in all layers. */
export function kvBytesPerToken(shape: KvCacheShape): number {
  return 2 * shape.layers * shape.kvHeads * shape.headDim * shape.dtype.bytes;
}

/**
 * The paged store of keys and values: per layer two arrays [blocks, G, blockSize, D]. Which block belongs to which
 * sequence is the engine's affair; layers see block tables and slots only.
 */
export class KvCache implements Disposable {
  readonly device: Device;
  readonly shape: KvCacheShape;
  readonly keys: Tensor[];
  readonly values: Tensor[];
  #blocks: number;

  constructor(device: Device, shape: KvCacheShape, blocks: number) {
    this.device = device;
    this.shape = shape;
    this.#blocks = blocks;
    const make = () => Array.from({ length: shape.layers }, () => this.#allocate(blocks));
    this.keys = make();
    this.values = make();
  }

  get blocks(): number {
    return this.#blocks;
  }

  /**
   * Enlarges the cache, keeping its content and block numbers; one array at a time, so that both sizes of only one need
   * memory together. Addresses change: graphs that use the cache must be captured anew. Throws OutOfMemoryError, after
   * which the cache is as it was or, in part, larger than `blocks` says.
   */
  grow(blocks: number): void {
    for (const arrays of [this.keys, this.values]) {
      for (const [layer, old] of arrays.entries()) {
        if (old.shape[0]! >= blocks) continue;
        const larger = this.#allocate(blocks);
        const kept = larger.narrow(0, 0, old.shape[0]!);
        kept.copy_(old);
        kept.dispose();
        arrays[layer] = larger;
        old.dispose();
      }
    }
    this.#blocks = blocks;
  }

  #allocate(blocks: number): Tensor {
    const { kvHeads, headDim, dtype } = this.shape;
    return Tensor.empty([blocks, kvHeads, blockSize, headDim], { dtype, device: this.device });
  }

  get tokens(): number {
    return this.blocks * blockSize;
  }

  dispose(): void {
    for (const tensor of [...this.keys, ...this.values]) tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
