import type { DType } from "../../base/dtype.ts";
import { ArgumentError, StateError } from "../../base/errors.ts";
import type { Device } from "../../driver/device.ts";
import { LoraAdapter } from "../../formats/peft/adapter.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { Module } from "../module.ts";
import type { Projection } from "../projection.ts";
import type { UploadOptions } from "../upload.ts";
import { AdapterTensors } from "./adapter-tensors.ts";
import { fitAdapter } from "./fit.ts";
import { findPlaces } from "./places.ts";
import { adapterSlots, ProjectionAdapters } from "./projection-adapters.ts";

/** An adapter that requests may name. */
export interface LoadedAdapter {
  readonly name: string;
  /** Its directory. */
  readonly path: string;
  /** Another one for every adapter that is ever loaded. */
  readonly id: number;
  /** Where the tables have it. */
  readonly slot: number;
  /** The network runs with other weights for it, so its rows run in batches of their own. */
  readonly replacesWeights: boolean;
  /** Device memory that it takes. */
  readonly sizeBytes: number;
}

/** The adapters of a pass's rows. */
export interface AdapterRows {
  /** int32 [T]: the slot of each row's adapter, -1 for none. */
  readonly slots: Tensor;
  /** The adapter of all rows, where it is one that replaces weights. */
  readonly whole: LoadedAdapter | undefined;
}

interface Held {
  readonly adapter: LoadedAdapter;
  readonly tensors: AdapterTensors;
  /** Batches that run with it, and whether it goes with the last of them. */
  users: number;
  isUnloaded: boolean;
}

/** Ranks that temporary memory is sized for are multiples of this, so that few graphs depend on an adapter's own. */
const rankStep = 16;

/**
 * The adapters of one network. Loading one writes to tables in device memory, so that graphs which are captured, and even run,
 * stay as they are, unless the adapter works on a projection (or has a bias there) that none did before, or has a larger rank than any.
 */
export class AdapterSet implements Disposable {
  readonly #network: Module & { readonly device: Device; readonly dtype: DType };
  readonly #byName = new Map<string, Held | "loading">();
  readonly #held = new Map<number, Held>();
  readonly #attached = new Set<Projection>();
  readonly #state: { slots: Tensor | undefined; maxRank: number } = { slots: undefined, maxRank: 0 };
  #nextId = 1;
  #version = 0;

  constructor(network: Module & { readonly device: Device; readonly dtype: DType }) {
    this.#network = network;
  }

  /** Another number whenever graphs of passes with adapters do not hold any more. */
  get version(): number {
    return this.#version;
  }

  /** Names of the adapters that requests may use, in the order they were loaded. */
  get names(): readonly string[] {
    return [...this.#byName].filter(([, held]) => held !== "loading").map(([name]) => name);
  }

  /** Throws ArgumentError that lists the loaded ones. */
  get(name: string): LoadedAdapter {
    const held = this.#byName.get(name);
    if (held !== undefined && held !== "loading") return held.adapter;
    const { names } = this;
    throw new ArgumentError(
      `there is no adapter "${name}"; ${names.length === 0 ? "none is loaded" : `loaded are ${names.map((n) => `"${n}"`).join(", ")}`}`,
    );
  }

  /**
   * Loads the PEFT adapter in `directory` beside those that are loaded; batches may run meanwhile.
   * Throws ArgumentError for a name that is taken, FileError, FormatError, UnsupportedError, OutOfMemoryError.
   */
  async load(name: string, directory: string, options: UploadOptions = {}): Promise<LoadedAdapter> {
    if (name === "") throw new ArgumentError("an adapter's name must not be empty");
    if (this.#byName.has(name)) {
      throw new ArgumentError(`there is an adapter "${name}" already; unload it first, or choose another name`);
    }
    this.#byName.set(name, "loading");
    try {
      using file = LoraAdapter.open(directory);
      const fitted = fitAdapter(file, findPlaces(this.#network));
      const tensors = await AdapterTensors.load(file, fitted, this.#network, options);
      const held = this.#hold(name, directory, tensors);
      // In this order: names list adapters as they became usable.
      this.#byName.delete(name);
      this.#byName.set(name, held);
      return held.adapter;
    } catch (error) {
      this.#byName.delete(name);
      throw error;
    }
  }

  /** Takes an adapter away: no request may name it any more; its memory goes when the batches that use it have ended. */
  unload(name: string): void {
    const { id } = this.get(name);
    const held = this.#held.get(id)!;
    this.#byName.delete(name);
    held.isUnloaded = true;
    if (held.users === 0) this.#drop(held);
  }

  /** Keeps adapters in memory until the returned function is called. */
  use(adapters: Iterable<LoadedAdapter>): () => void {
    const helds = [...new Set(adapters)].map(({ id, name }) => {
      const held = this.#held.get(id);
      if (!held) throw new ArgumentError(`the adapter "${name}" has been unloaded`);
      return held;
    });
    for (const held of helds) held.users++;
    return () => {
      for (const held of helds) if (--held.users === 0 && held.isUnloaded) this.#drop(held);
    };
  }

  /** Runs (or captures) part of a pass over the network, in which each row has its own adapter. `work` is synchronous. */
  run<T>(rows: AdapterRows | undefined, work: () => T): T {
    if (!rows) return work();
    const whole = rows.whole && this.#held.get(rows.whole.id)?.tensors;
    this.#state.slots = rows.slots;
    if (whole) this.#swap(whole, true);
    try {
      return work();
    } finally {
      this.#state.slots = undefined;
      if (whole) this.#swap(whole, false);
    }
  }

  #swap({ projections, tables }: AdapterTensors, isIn: boolean): void {
    for (const [base, own] of projections) base.adapters!.replacement = isIn ? own : undefined;
    for (const [base, table] of tables) base.replacement = isIn ? { table } : undefined;
  }

  #hold(name: string, path: string, tensors: AdapterTensors): Held {
    const slots = new Set([...this.#held.values()].map(({ adapter }) => adapter.slot));
    let slot = 0;
    while (slots.has(slot)) slot++;
    if (slot >= adapterSlots) {
      tensors.dispose();
      throw new ArgumentError(`${adapterSlots} adapters are loaded, which is the limit; unload one first`);
    }
    const { replacesWeights, sizeBytes } = tensors;
    const adapter = { name, path, id: this.#nextId++, slot, replacesWeights, sizeBytes };
    for (const [projection, entries] of tensors.entries) {
      const adapters = this.#attach(projection);
      const had = adapters.hasBiases;
      adapters.set(slot, entries, tensors.biases.get(projection));
      if (adapters.hasBiases !== had) this.#version++;
    }
    for (const projection of tensors.projections.keys()) this.#attach(projection);
    if (tensors.maxRank > this.#state.maxRank) {
      this.#state.maxRank = Math.ceil(tensors.maxRank / rankStep) * rankStep;
      this.#version++;
    }
    const held = { adapter, tensors, users: 0, isUnloaded: false };
    this.#held.set(adapter.id, held);
    return held;
  }

  #attach(projection: Projection): ProjectionAdapters {
    if (!projection.adapters) {
      projection.adapters = new ProjectionAdapters(this.#network.device, projection.stacks.length, this.#state);
      this.#attached.add(projection);
      this.#version++;
    }
    if (!this.#attached.has(projection)) {
      throw new StateError("this network has adapters of another engine; load them all with one");
    }
    return projection.adapters;
  }

  #drop({ adapter, tensors }: Held): void {
    this.#held.delete(adapter.id);
    for (const projection of tensors.entries.keys()) projection.adapters!.set(adapter.slot);
    if (tensors.replacesWeights) this.#version++;
    // Memory of the stream's pool: who gets it next works after what is queued now.
    tensors.dispose();
    if (this.#held.size === 0) this.#detach();
  }

  /** Without adapters the network is as it was. */
  #detach(): void {
    for (const projection of this.#attached) {
      projection.adapters?.dispose();
      projection.adapters = undefined;
    }
    this.#attached.clear();
    this.#state.maxRank = 0;
    this.#version++;
  }

  /** Frees all adapters, those in use as well. */
  dispose(): void {
    for (const { tensors } of this.#held.values()) tensors.dispose();
    this.#held.clear();
    this.#byName.clear();
    this.#detach();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
