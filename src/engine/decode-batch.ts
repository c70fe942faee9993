import { float32, int32, int64 } from "../base/dtype.ts";
import { ptrAdd } from "../driver/api.ts";
import type { Device } from "../driver/device.ts";
import type { PinnedBuffer } from "../driver/pinned.ts";
import type { Stream } from "../driver/stream.ts";
import { seenWords } from "../kernels/sampling/repetition.ts";
import type { CachePages } from "../nn/forward-context.ts";
import type { AdapterRows, LoadedAdapter } from "../nn/lora/adapter-set.ts";
import { Tensor } from "../tensor/tensor.ts";
import { noBlock } from "./block-manager.ts";
import type { SequenceBlocks } from "./paged-cache.ts";
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
  /** Groups of the cache's layers, each with block tables of its own. */
  readonly groups: number;
  /** int32 [B]: the token that each row feeds to the next step, and where it stands. */
  readonly tokenIds: Tensor;
  readonly positions: Tensor;
  /** int32 [groups, B]. */
  readonly slots: Tensor;
  /** int32 [B]: tokens that the row sees in the next step; 0 for a row that is not in use. */
  readonly contextLengths: Tensor;
  /** int32 [B]: tokens drawn so far: with the seed, they fix the next draw. */
  readonly draws: Tensor;
  /** int32 [B + 1]: 0, 1, …, B. */
  readonly queryStarts: Tensor;
  /** int32 [groups, B, maxBlocks]. */
  readonly blockTable: Tensor;
  /** Views of `slots` and `blockTable`, for each group. */
  readonly pages: readonly CachePages[];
  /** int32 [B]: the slot of each row's adapter, -1 for none. */
  readonly adapterSlots: Tensor;
  /** Per row: float32, int32, float32, float32, int64. */
  readonly temperature: Tensor;
  readonly topK: Tensor;
  readonly topP: Tensor;
  readonly minP: Tensor;
  readonly seeds: Tensor;
  /** float32 [B], and int32 [B, seenWords]: the tokens that it is for, as bits. */
  readonly repetitionPenalty: Tensor;
  readonly seen: Tensor;
  /** int32 [ringSteps, B] tokens, and one counter of finished steps, in mapped page-locked memory. */
  readonly ring: PinnedBuffer;
  /** int32 [1]: steps taken, on the device. */
  readonly step: Tensor;
  readonly ringTokens: Int32Array;
  readonly finishedSteps: Int32Array;
  /** Every row of the batch that started last takes the most probable token. */
  greedyOnly = false;
  /** Some row of it has a repetition penalty. */
  penalizes = false;
  /** The adapters of the batch that started last, where it has any. */
  adapterRows: AdapterRows | undefined;
  readonly #stream: Stream;
  /** What `blockTable` holds; rows are copied from here, asynchronously. */
  readonly #tableMirror: PinnedBuffer;

  constructor(device: Device, shape: { rows: number; maxBlocks: number; groups: number; vocabSize: number }) {
    const { rows, maxBlocks, groups, vocabSize } = shape;
    this.#stream = device.stream;
    this.#tableMirror = device.allocatePinned(groups * rows * maxBlocks * 4);
    this.rows = rows;
    this.maxBlocks = maxBlocks;
    this.groups = groups;
    const ints = () => Tensor.zeros([rows], { dtype: int32, device });
    const floats = () => Tensor.zeros([rows], { dtype: float32, device });
    this.tokenIds = ints();
    this.positions = ints();
    this.slots = Tensor.zeros([groups, rows], { dtype: int32, device });
    this.contextLengths = ints();
    this.draws = ints();
    this.adapterSlots = ints();
    this.queryStarts = Tensor.arange(0, rows + 1, 1, { dtype: int32, device });
    this.blockTable = Tensor.zeros([groups, rows, maxBlocks], { dtype: int32, device });
    this.pages = Array.from({ length: groups }, (_, group) => ({
      slots: this.slots.select(0, group),
      blockTable: this.blockTable.select(0, group),
    }));
    this.temperature = floats();
    this.topK = ints();
    this.topP = floats();
    this.minP = floats();
    this.seeds = Tensor.zeros([rows], { dtype: int64, device });
    this.repetitionPenalty = floats();
    this.seen = Tensor.zeros([rows, seenWords(vocabSize)], { dtype: int32, device });
    this.step = Tensor.zeros([1], { dtype: int32, device });
    this.ring = device.allocatePinned((ringSteps * rows + 1) * 4);
    const words = new Int32Array(this.ring.buffer, 0, ringSteps * rows + 1);
    this.ringTokens = words.subarray(0, ringSteps * rows);
    this.finishedSteps = words.subarray(ringSteps * rows);
  }

  /**
   * Places rows before their first draw: row i has seen the tokens `prompts[i]`, kept in the cache blocks `sequences[i]`, and the
   * last one's hidden state is about to be sampled from; rows without a prompt stay out of use.
   */
  start(
    prompts: readonly (readonly number[])[],
    sequences: readonly SequenceBlocks[],
    sampling: readonly SamplingParameters[],
    adapters: readonly (LoadedAdapter | undefined)[],
  ): void {
    const perRow = (value: (row: number) => number) =>
      Int32Array.from({ length: this.rows }, (_, row) => (row < prompts.length ? value(row) : 0));
    write(
      this.positions,
      perRow((row) => prompts[row]!.length - 1),
    );
    write(
      this.contextLengths,
      perRow((row) => prompts[row]!.length),
    );
    write(this.slots, new Int32Array(this.slots.size).fill(-1));
    write(this.draws, new Int32Array(this.rows));
    write(this.tokenIds, new Int32Array(this.rows));
    write(this.step, new Int32Array(1));
    this.finishedSteps[0] = 0;
    this.greedyOnly = sampling.every((p) => p.temperature === 0);
    this.penalizes = sampling.some((p) => (p.repetitionPenalty ?? 1) !== 1);
    if (this.penalizes) write(this.seen, bitsOf(prompts, this.seen.shape as [number, number]));
    this.#setSampling(sampling);
    write(
      this.adapterSlots,
      Int32Array.from({ length: this.rows }, (_, row) => adapters[row]?.slot ?? -1),
    );
    const isAdapted = adapters.some((adapter) => adapter !== undefined);
    const whole = adapters.find((adapter) => adapter?.replacesWeights);
    this.adapterRows = isAdapted ? { slots: this.adapterSlots, whole } : undefined;
    new Int32Array(this.#tableMirror.buffer, 0, this.blockTable.size).fill(noBlock);
    this.#stream.copyToDevice(this.blockTable.ptr, this.#tableMirror, 0, this.blockTable.sizeBytes);
    for (const [row, { tables }] of sequences.entries()) {
      for (const [group, { entries }] of tables.entries()) this.setTable({ group, row, entries, from: 0 });
    }
  }

  /**
   * Makes `entries` from `from` on the block table of a row in one group, in stream order; the host does not wait. Entries
   * before that stay, also those whose blocks were given back: nothing reads them.
   */
  setTable(p: { group: number; row: number; entries: readonly number[]; from: number }): void {
    const first = (p.group * this.rows + p.row) * this.maxBlocks;
    const mirror = new Int32Array(this.#tableMirror.buffer, first * 4, this.maxBlocks);
    for (let i = p.from; i < p.entries.length; i++) mirror[i] = p.entries[i]!;
    const offset = (first + p.from) * 4;
    const bytes = (p.entries.length - p.from) * 4;
    this.#stream.copyToDevice(ptrAdd(this.blockTable.ptr, offset), this.#tableMirror, offset, bytes);
  }

  /** Takes a row out of use, in stream order: later steps neither read nor write its cache blocks. */
  retire(row: number): void {
    this.#stream.fill32(ptrAdd(this.contextLengths.ptr, row * 4), 0, 1);
    for (let group = 0; group < this.groups; group++) {
      this.#stream.fill32(ptrAdd(this.slots.ptr, (group * this.rows + row) * 4), 0xffffffff, 1);
    }
  }

  #setSampling(parameters: readonly SamplingParameters[]): void {
    const of = (pick: (p: SamplingParameters) => number) =>
      Array.from({ length: this.rows }, (_, row) => (parameters[row] ? pick(parameters[row]) : 0));
    write(this.temperature, Float32Array.from(of((p) => p.temperature)));
    write(this.topK, Int32Array.from(of((p) => p.topK)));
    write(this.topP, Float32Array.from(of((p) => p.topP)));
    write(this.minP, Float32Array.from(of((p) => p.minP)));
    const penalties = Array.from({ length: this.rows }, (_, row) => parameters[row]?.repetitionPenalty ?? 1);
    write(this.repetitionPenalty, Float32Array.from(penalties));
    const bits = Array.from({ length: this.rows }, (_, row) => BigInt.asIntN(64, parameters[row]?.seed ?? 0n));
    write(this.seeds, BigInt64Array.from(bits));
  }

  /** The token that `row` drew in step `step`, counted from 1. */
  token(step: number, row: number): number {
    return this.ringTokens[((step - 1) % ringSteps) * this.rows + row]!;
  }

  dispose(): void {
    for (const { slots, blockTable } of this.pages) {
      slots.dispose();
      blockTable.dispose();
    }
    for (const value of Object.values(this)) if (value instanceof Tensor) value.dispose();
    this.ring.dispose();
    this.#tableMirror.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** For each row the set of its tokens: token v is bit v % 32 of word v / 32. */
function bitsOf(rows: readonly (readonly number[])[], [count, words]: readonly [number, number]): Int32Array {
  const bits = new Int32Array(count * words);
  for (const [row, tokens] of rows.entries()) for (const v of tokens) bits[row * words + (v >> 5)]! |= 1 << (v & 31);
  return bits;
}

/** Overwrites a device tensor with host values of the same length. */
export function write(target: Tensor, values: Float32Array | Int32Array | BigInt64Array): void {
  const source = Tensor.from(values, { dtype: target.dtype, device: target.device, shape: target.shape });
  target.copy_(source);
  source.dispose();
}
