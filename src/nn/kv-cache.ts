import type { DType } from "../base/dtype.ts";
import { ShapeError } from "../base/errors.ts";
import type { Device } from "../driver/device.ts";
import { Tensor } from "../tensor/tensor.ts";
import { keep } from "../tensor/tidy.ts";
import { type CacheGroup, cacheGroups } from "./cache-groups.ts";

/** Tokens in one block of the paged cache. */
export const blockSize = 16;

export interface KvCacheShape {
  readonly layers: number;
  /** Key/value heads, G. */
  readonly kvHeads: number;
  /** D. */
  readonly headDim: number;
  readonly dtype: DType;
  /** [layers] how many tokens each layer sees, the newest included; 0 for all of them. By default all layers see all. */
  readonly windows?: readonly number[];
}

/**
 * The paged store of keys and values: per layer two arrays [blocks, G, blockSize, D]. Layers that see as far as each other
 * form a group, whose layers have equally many blocks and one block table for a sequence. Which block belongs to which
 * sequence is the engine's affair; layers see block tables and slots only.
 */
export class KvCache implements Disposable {
  readonly device: Device;
  readonly shape: KvCacheShape;
  readonly groups: readonly CacheGroup[];
  /** [layers] the group of each layer. */
  readonly groupOf: readonly number[];
  readonly keys: Tensor[] = [];
  readonly values: Tensor[] = [];
  readonly #blocks: number[];

  /** `blocks`: how many for each group. Throws OutOfMemoryError. */
  constructor(device: Device, shape: KvCacheShape, blocks: readonly number[]) {
    this.device = device;
    this.shape = shape;
    this.groups = cacheGroups(shape);
    if (blocks.length !== this.groups.length) {
      throw new ShapeError(
        `KvCache: block counts must be given for ${this.groups.length} groups, got ${blocks.length}`,
      );
    }
    const groupOf = new Array<number>(shape.layers).fill(0);
    for (const [group, { layers }] of this.groups.entries()) for (const layer of layers) groupOf[layer] = group;
    this.groupOf = groupOf;
    this.#blocks = [...blocks];
    try {
      for (const group of groupOf) {
        this.keys.push(this.#allocate(blocks[group]!));
        this.values.push(this.#allocate(blocks[group]!));
      }
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** Blocks of each group. */
  get blocks(): readonly number[] {
    return this.#blocks;
  }

  /** Device memory of all groups. */
  get sizeBytes(): number {
    return [...this.keys, ...this.values].reduce((sum, tensor) => sum + tensor.sizeBytes, 0);
  }

  /**
   * Enlarges a group, keeping its content and block numbers; one array at a time, so that both sizes of only one need
   * memory together. Addresses change: graphs that use the cache must be captured anew. Throws OutOfMemoryError, after
   * which the cache is as it was or, in part, larger than `blocks` says.
   */
  grow(group: number, blocks: number): void {
    for (const arrays of [this.keys, this.values]) {
      for (const layer of this.groups[group]!.layers) {
        const old = arrays[layer]!;
        if (old.shape[0]! >= blocks) continue;
        const larger = this.#allocate(blocks);
        const kept = larger.narrow(0, 0, old.shape[0]!);
        kept.copy_(old);
        kept.dispose();
        arrays[layer] = larger;
        old.dispose();
      }
    }
    this.#blocks[group] = blocks;
  }

  /** The cache outlives the pass that it was enlarged for. */
  #allocate(blocks: number): Tensor {
    const { kvHeads, headDim, dtype } = this.shape;
    return keep(Tensor.empty([blocks, kvHeads, blockSize, headDim], { dtype, device: this.device }));
  }

  dispose(): void {
    for (const tensor of [...this.keys, ...this.values]) tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
