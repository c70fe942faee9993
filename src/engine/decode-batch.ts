import { float32, int32, int64 } from "../base/dtype.ts";
import { ptrAdd } from "../driver/api.ts";
import type { Device } from "../driver/device.ts";
import type { PinnedBuffer } from "../driver/pinned.ts";
import type { Stream } from "../driver/stream.ts";
import { Tensor } from "../tensor/tensor.ts";
import type { SamplingParameters } from "./sampling.ts";

/** Steps whose tokens the host may leave unread before the device would overwrite them. */
export const ringSteps = 64;

/**
 * The state of a running batch of B rows, in device memory, so that a decode step needs nothing from the host: each step
 * reads it, and its last kernel moves it on. Sampled tokens come back through a ring in page-locked memory that the
 * device writes and the host reads when it likes.
 */
export class DecodeBatch implements Disposable {
  readonly rows: number;
  readonly maxBlocks: number;
  /** int32 [B]: the token that each row feeds to the next step, and where it stands. */
  readonly tokenIds: Tensor;
  readonly positions: Tensor;
  readonly slots: Tensor;
  /** int32 [B]: tokens that the row sees in the next step; 0 for a row that is not in use. */
  readonly contextLengths: Tensor;
  /** int32 [B]: tokens drawn so far: with the seed, they fix the next draw. */
  readonly draws: Tensor;
  /** int32 [B + 1]: 0, 1, …, B. */
  readonly queryStarts: Tensor;
  /** int32 [B, maxBlocks]. */
  readonly blockTable: Tensor;
  /** Per row: float32, int32, float32, float32, int64. */
  readonly temperature: Tensor;
  readonly topK: Tensor;
  readonly topP: Tensor;
  readonly minP: Tensor;
  readonly seeds: Tensor;
  /** int32 [ringSteps, B] tokens, and one counter of finished steps, in mapped page-locked memory. */
  readonly ring: PinnedBuffer;
  /** int32 [1]: steps taken, on the device. */
  readonly step: Tensor;
  readonly ringTokens: Int32Array;
  readonly finishedSteps: Int32Array;
  /** Every row of the batch that started last takes the most probable token. */
  greedyOnly = false;
  readonly #stream: Stream;
  /** What `blockTable` holds; rows are copied from here, asynchronously. */
  readonly #tableMirror: PinnedBuffer;

  constructor(device: Device, rows: number, maxBlocks: number) {
    this.#stream = device.stream;
    this.#tableMirror = device.allocatePinned(rows * maxBlocks * 4);
    this.rows = rows;
    this.maxBlocks = maxBlocks;
    const ints = () => Tensor.zeros([rows], { dtype: int32, device });
    const floats = () => Tensor.zeros([rows], { dtype: float32, device });
    this.tokenIds = ints();
    this.positions = ints();
    this.slots = ints();
    this.contextLengths = ints();
    this.draws = ints();
    this.queryStarts = Tensor.arange(0, rows + 1, 1, { dtype: int32, device });
    this.blockTable = Tensor.zeros([rows, maxBlocks], { dtype: int32, device });
    this.temperature = floats();
    this.topK = ints();
    this.topP = floats();
    this.minP = floats();
    this.seeds = Tensor.zeros([rows], { dtype: int64, device });
    this.step = Tensor.zeros([1], { dtype: int32, device });
    this.ring = device.allocatePinned((ringSteps * rows + 1) * 4);
    const words = new Int32Array(this.ring.buffer, 0, ringSteps * rows + 1);
    this.ringTokens = words.subarray(0, ringSteps * rows);
    this.finishedSteps = words.subarray(ringSteps * rows);
  }

  /**
   * Places rows before their first draw: row i has seen `prompts[i]` tokens, kept in the cache blocks `tables[i]`, and the
   * last one's hidden state is about to be sampled from; rows without a prompt stay out of use.
   */
  start(
    prompts: readonly number[],
    tables: readonly (readonly number[])[],
    sampling: readonly SamplingParameters[],
  ): void {
    const perRow = (value: (row: number) => number) =>
      Int32Array.from({ length: this.rows }, (_, row) => (row < prompts.length ? value(row) : 0));
    write(
      this.positions,
      perRow((row) => prompts[row]! - 1),
    );
    write(
      this.contextLengths,
      perRow((row) => prompts[row]!),
    );
    write(this.slots, new Int32Array(this.rows).fill(-1));
    write(this.draws, new Int32Array(this.rows));
    write(this.tokenIds, new Int32Array(this.rows));
    write(this.step, new Int32Array(1));
    this.finishedSteps[0] = 0;
    this.greedyOnly = sampling.every((p) => p.temperature === 0);
    this.#setSampling(sampling);
    new Int32Array(this.#tableMirror.buffer, 0, this.rows * this.maxBlocks).fill(-1);
    this.#stream.copyToDevice(this.blockTable.ptr, this.#tableMirror, 0, this.rows * this.maxBlocks * 4);
    for (const [row, table] of tables.entries()) this.setTable(row, table, 0);
  }

  /** Makes `table` from entry `from` on the block table of `row`, in stream order; the host does not wait. */
  setTable(row: number, table: readonly number[], from: number): void {
    const mirror = new Int32Array(this.#tableMirror.buffer, row * this.maxBlocks * 4, this.maxBlocks);
    for (let i = from; i < table.length; i++) mirror[i] = table[i]!;
    const offset = (row * this.maxBlocks + from) * 4;
    this.#stream.copyToDevice(
      ptrAdd(this.blockTable.ptr, offset),
      this.#tableMirror,
      offset,
      (table.length - from) * 4,
    );
  }

  /** Takes a row out of use, in stream order: later steps neither read nor write its cache blocks. */
  retire(row: number): void {
    this.#stream.fill32(ptrAdd(this.contextLengths.ptr, row * 4), 0, 1);
    this.#stream.fill32(ptrAdd(this.slots.ptr, row * 4), 0xffffffff, 1);
  }

  #setSampling(parameters: readonly SamplingParameters[]): void {
    const of = (pick: (p: SamplingParameters) => number) =>
      Array.from({ length: this.rows }, (_, row) => (parameters[row] ? pick(parameters[row]) : 0));
    write(this.temperature, Float32Array.from(of((p) => p.temperature)));
    write(this.topK, Int32Array.from(of((p) => p.topK)));
    write(this.topP, Float32Array.from(of((p) => p.topP)));
    write(this.minP, Float32Array.from(of((p) => p.minP)));
    const bits = Array.from({ length: this.rows }, (_, row) => BigInt.asIntN(64, parameters[row]?.seed ?? 0n));
    write(this.seeds, BigInt64Array.from(bits));
  }

  /** The token that `row` drew in step `step`, counted from 1. */
  token(step: number, row: number): number {
    return this.ringTokens[((step - 1) % ringSteps) * this.rows + row]!;
  }

  dispose(): void {
    for (const value of Object.values(this)) if (value instanceof Tensor) value.dispose();
    this.ring.dispose();
    this.#tableMirror.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Overwrites a device tensor with host values of the same length. */
export function write(target: Tensor, values: Float32Array | Int32Array | BigInt64Array): void {
  const source = Tensor.from(values, { dtype: target.dtype, device: target.device, shape: target.shape });
  target.copy_(source);
  source.dispose();
}
