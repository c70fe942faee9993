import { float32 } from "../../base/dtype.ts";
import type { Device } from "../../driver/device.ts";
import {
  type LoraEntry,
  type LoraRows,
  type LoraSums,
  loraEntryWords,
  loraExpand,
  loraGate,
  loraShrink,
  loraSplit,
} from "../../kernels/lora/lora.ts";
import { Tensor } from "../../tensor/tensor.ts";
import type { Linear } from "../linear.ts";
import type { GateActivation } from "../projection.ts";
import { type BiasEntry, ProjectionBiases, writeEntries } from "./projection-biases.ts";

/** Adapters that may be loaded at once: rows of every table. A table is small, so there is room for more than anyone needs. */
export const adapterSlots = 64;

/** What the adapters of a pass have in common, whichever projection it is at. */
export interface PassState {
  /** int32 [T]: the slot of each row, -1 for none; undefined while no row has an adapter. */
  readonly slots: Tensor | undefined;
  /** The largest rank of any loaded adapter. */
  readonly maxRank: number;
}

/**
 * What adapters do to one projection: y += scale · (x · Aᵀ) · Bᵀ (and scale · bias), for each row with its own adapter's A and B. A table in
 * device memory says where those lie, for every adapter and for every module that the projection stacks.
 */
export class ProjectionAdapters {
  /** Runs in place of the projection during a pass whose adapter replaced its weight. */
  replacement: Linear | undefined;
  readonly #parts: number;
  readonly #state: PassState;
  /** Entries of adapterSlots × parts, as words. */
  readonly #table: Tensor;
  /** From the first adapter with a bias on. */
  #biases: ProjectionBiases | undefined;

  constructor(device: Device, parts: number, state: PassState) {
    this.#parts = parts;
    this.#state = state;
    this.#table = Tensor.zeros([adapterSlots, parts * loraEntryWords], { dtype: "int64", device });
  }

  /** Whether a row of the pass that runs now has an adapter. */
  get isActive(): boolean {
    return this.#state.slots !== undefined;
  }

  /** Whether an adapter had a bias here; from then on a pass has a launch more. */
  get hasBiases(): boolean {
    return this.#biases !== undefined;
  }

  /** Makes `entries` and `biases`, one for each part, those of a slot, in stream order. Without them the slot does nothing here. */
  set(
    slot: number,
    entries: readonly (LoraEntry | undefined)[] = [],
    biases: readonly (BiasEntry | undefined)[] = [],
  ): void {
    const { device } = this.#table;
    writeEntries(
      this.#table,
      slot,
      Array.from({ length: this.#parts }, (_, part) => entries[part]),
    );
    if (biases.length > 0) this.#biases ??= new ProjectionBiases(device, adapterSlots, this.#parts);
    this.#biases?.set(slot, biases);
  }

  /** Adds to y [..., N] what the adapters make of x [..., K]; y is contiguous. */
  add(x: Tensor, y: Tensor): void {
    const cols = y.shape.at(-1)!;
    const rows = this.#rows(x);
    using h = this.#shrink(x, rows);
    loraExpand(x.device.stream, { ...rows, ...sumsOf(h), y: y.ptr, cols });
    this.#biases?.add(y, rows);
  }

  /** activation(gate) · up, [..., F], of `halves` [..., 2F] float32, to which the adapters' part is added before. */
  gate(x: Tensor, halves: Tensor, activation: GateActivation): Tensor {
    const cols = halves.shape.at(-1)! / 2;
    const out = Tensor.empty([...x.shape.slice(0, -1), cols], { dtype: x.dtype, device: x.device });
    const rows = this.#rows(x);
    this.#biases?.add(halves, rows);
    using h = this.#shrink(x, rows);
    loraGate(x.device.stream, { ...rows, ...sumsOf(h), out: out.ptr, z: halves.ptr, cols, activation });
    return out;
  }

  #rows(x: Tensor): LoraRows {
    const { slots, maxRank } = this.#state;
    return {
      table: this.#table.ptr,
      slots: slots!.ptr,
      rows: x.size / x.shape.at(-1)!,
      parts: this.#parts,
      maxRank,
      dtype: x.dtype,
    };
  }

  /** [split, T, parts, maxRank]. */
  #shrink(x: Tensor, rows: LoraRows): Tensor {
    const { device } = x;
    using input = x.contiguous();
    const from = { ...rows, x: input.ptr, cols: x.shape.at(-1)! };
    const shape = [loraSplit(device, from), rows.rows, rows.parts, rows.maxRank];
    const h = Tensor.empty(shape, { dtype: float32, device });
    loraShrink(device.stream, { ...from, ...sumsOf(h) });
    return h;
  }

  dispose(): void {
    this.#table.dispose();
    this.#biases?.dispose();
  }
}

function sumsOf(h: Tensor): LoraSums {
  return { h: h.ptr, split: h.shape[0]! };
}
