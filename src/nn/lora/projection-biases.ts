import { float32 } from "../../base/dtype.ts";
import type { Device } from "../../driver/device.ts";
import { type LoraEntry, type LoraRows, loraEntry, loraEntryWords, loraExpand } from "../../kernels/lora/lora.ts";
import { Tensor } from "../../tensor/tensor.ts";

/** A bias of B at one part of a projection, in the dtype of the network and, for sums that are not rounded yet, in float32. */
export interface BiasEntry {
  readonly own: Tensor;
  readonly exact: Tensor;
  readonly scale: number;
  /** Columns of y that are the part's. */
  readonly begin: number;
  readonly width: number;
}

/**
 * What `lora_bias` adds at one projection: y += scale · bias, for each row its own adapter's. It is a product of rank one with an h
 * of ones, so that the kernel and the tables of the low-rank products do it.
 */
export class ProjectionBiases {
  readonly #parts: number;
  /** For results in the network's dtype, and for those in float32. */
  readonly #own: Tensor;
  readonly #exact: Tensor;

  constructor(device: Device, slots: number, parts: number) {
    this.#parts = parts;
    const table = () => Tensor.zeros([slots, parts * loraEntryWords], { dtype: "int64", device });
    this.#own = table();
    this.#exact = table();
  }

  /** Makes `entries`, one for each part, those of a slot, in stream order. */
  set(slot: number, entries: readonly (BiasEntry | undefined)[]): void {
    for (const [table, dtype] of [[this.#own, "own"] as const, [this.#exact, "exact"] as const]) {
      const parts = Array.from({ length: this.#parts }, (_, part) => asRankOne(entries[part], dtype));
      writeEntries(table, slot, parts);
    }
  }

  /** Adds to y [..., N], contiguous, in the network's dtype or in float32. */
  add(y: Tensor, rows: LoraRows): void {
    const { device, dtype } = y;
    using ones = Tensor.ones([rows.rows, rows.parts, 1], { dtype: float32, device });
    const table = (dtype === float32 ? this.#exact : this.#own).ptr;
    loraExpand(device.stream, {
      ...rows,
      table,
      maxRank: 1,
      dtype,
      y: y.ptr,
      h: ones.ptr,
      split: 1,
      cols: y.shape.at(-1)!,
    });
  }

  dispose(): void {
    this.#own.dispose();
    this.#exact.dispose();
  }
}

function asRankOne(entry: BiasEntry | undefined, dtype: "own" | "exact"): LoraEntry | undefined {
  if (!entry) return undefined;
  const { scale, begin, width } = entry;
  const { ptr } = entry[dtype];
  return { a: ptr, b: ptr, rank: 1, scale, begin, width }; // there is no A: h is given
}

/** Writes the entries of a slot into a table [slots, parts · words], in stream order. */
export function writeEntries(table: Tensor, slot: number, entries: readonly (LoraEntry | undefined)[]): void {
  const words = new BigInt64Array(entries.length * loraEntryWords);
  for (const [part, entry] of entries.entries()) words.set(loraEntry(entry), part * loraEntryWords);
  using source = Tensor.from(words, { dtype: "int64", device: table.device, shape: [1, words.length] });
  using row = table.narrow(0, slot, 1);
  row.copy_(source);
}
