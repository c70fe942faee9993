import type { DType } from "../src/base/dtype.ts";
import { ptrAdd } from "../src/driver/api.ts";
import type { Device } from "../src/driver/device.ts";
import { Linear } from "../src/nn/linear.ts";
import { ProjectionAdapters } from "../src/nn/lora/projection-adapters.ts";
import type { Projection } from "../src/nn/projection.ts";
import { QuantizedLinear } from "../src/nn/quantized-linear.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { defineBench, positiveInteger } from "./support/bench.ts";
import { loadProbes, type Probes, readBandwidth } from "./support/probes.ts";
import { parseDtype } from "./support/product.ts";
import { parseStored, randomWeight, type StoredAs } from "./support/quant-product.ts";
import type { Row } from "./support/table.ts";
import { setsBeyondL2, type TimingOptions, timeRotating } from "./support/timing.ts";

/** A projection as it runs: the modules that it stacks, by their rows. */
interface Layer {
  readonly name: string;
  readonly k: number;
  readonly widths: readonly number[];
  readonly gated?: boolean;
}

/** Of an 8B model (Llama 3.1), which has 32 of each. */
const layers: readonly Layer[] = [
  { name: "q, k, v", k: 4096, widths: [4096, 1024, 1024] },
  { name: "o", k: 4096, widths: [4096] },
  { name: "gate, up", k: 4096, widths: [14336, 14336], gated: true },
  { name: "down", k: 14336, widths: [4096] },
];
const layersInModel = 32;

interface Work {
  readonly rank: number;
  readonly rows: number;
  /** Different adapters in the batch: from row to row in decode steps (up to 64 rows), in runs where there are more. */
  readonly adapters: number;
}

/** What adapters add to the products of a decode step, or of a short prompt: every module adapted, everything from memory. */
export const bench = defineBench({
  name: "lora",
  options: {
    dtype: { help: "bfloat16, float16 or float32", default: "bfloat16" },
    quant: { help: "how the base's weights are stored: as the dtype, or nf4, nf4-dq, q4_k, …" },
    ranks: { help: "comma-separated", default: "8,16,64" },
    rows: { help: "rows of the batch, comma-separated", default: "1,8,64" },
    adapters: { help: "different adapters in a batch, comma-separated; at most as many as rows", default: "1,8" },
    repeats: { help: "timed replays, of which the median counts", default: "15" },
  },
  measure({ device, table }, options) {
    const numbers = (option: "ranks" | "rows" | "adapters"): number[] =>
      options[option].split(",").map((text) => positiveInteger(option, text));
    const dtype = parseDtype(options.dtype);
    const stored = options.quant === undefined ? undefined : parseStored(options.quant);
    const repeats = positiveInteger("repeats", options.repeats);
    const bandwidth = readBandwidth(device);
    const probes = loadProbes(device);
    const works = numbers("ranks").flatMap((rank) =>
      numbers("rows").flatMap((rows) =>
        numbers("adapters")
          .filter((adapters) => adapters <= rows)
          .map((adapters): Work => ({ rank, rows, adapters })),
      ),
    );
    const rows: Row[] = [];
    const sums = works.map(() => ({ base: 0, added: 0 }));
    for (const layer of layers) {
      using sets = new ProjectionSets(device, probes, layer, dtype, stored);
      for (const [i, work] of works.entries()) {
        const { base, adapted } = sets.time(work, { repeats });
        const factors = work.adapters * work.rank * (layer.k * layer.widths.length + columnsOf(layer));
        sums[i]!.base += base;
        sums[i]!.added += adapted - base;
        rows.push({
          layer: layer.name,
          ...work,
          "us base": base,
          "us added": adapted - base,
          "us to read A and B": (factors * dtype.bytes) / bandwidth / 1e6,
        });
      }
    }
    const stores = options.quant ? `${options.quant}, x in ${dtype.name}` : dtype.name;
    table(
      `Adapters beside the projections of an 8B model, ${stores}, median of ${repeats} graph replays; read bandwidth ${bandwidth.toFixed(2)} TB/s`,
      rows,
    );
    table(
      `Of all projections in ${layersInModel} layers`,
      works.map((work, i) => ({
        ...work,
        "ms base": (sums[i]!.base * layersInModel) / 1000,
        "ms added": (sums[i]!.added * layersInModel) / 1000,
        "added / base": sums[i]!.added / sums[i]!.base,
      })),
    );
  },
});

/** One projection of the model in as many copies as keep its weights out of L2. */
class ProjectionSets implements Disposable {
  readonly #device: Device;
  readonly #dtype: DType;
  readonly #layer: Layer;
  readonly #projections: Projection[] = [];

  constructor(device: Device, probes: Probes, layer: Layer, dtype: DType, stored: StoredAs | undefined) {
    this.#device = device;
    this.#dtype = dtype;
    this.#layer = layer;
    const shape: [number, number] = [columnsOf(layer), layer.k];
    for (let set = 0, sets = 1; set < sets; set++) {
      const weight = stored
        ? randomWeight(device, probes, shape, dtype, stored, set + 1)
        : Tensor.randn(shape, { dtype, device, seed: set + 1 });
      this.#projections.push(
        weight instanceof Tensor ? new Linear(weight, undefined, { fixed: true }) : new QuantizedLinear(weight),
      );
      sets = setsBeyondL2(device, weight.sizeBytes);
    }
  }

  /** Microseconds of a pass without adapters and of one with them, each set with its own. */
  time({ rank, rows, adapters }: Work, options: TimingOptions): { readonly base: number; readonly adapted: number } {
    const [device, dtype, layer] = [this.#device, this.#dtype, this.#layer];
    const random = (shape: number[], seed: number) => Tensor.randn(shape, { dtype, device, seed });
    const sets = this.#projections.length;
    using x = random([rows, layer.k], 1);
    using slots = Tensor.from(
      Int32Array.from({ length: rows }, (_, row) =>
        rows <= 64 ? row % adapters : Math.floor((row * adapters) / rows),
      ),
      { device },
    );
    const state: { slots: Tensor | undefined; maxRank: number } = { slots: undefined, maxRank: rank };
    using a = random([sets, adapters, layer.widths.length, rank, layer.k], 2);
    using b = random([sets, adapters, columnsOf(layer), rank], 3);
    const { bytes } = dtype;
    for (const [set, projection] of this.#projections.entries()) {
      projection.adapters = new ProjectionAdapters(device, layer.widths.length, state);
      for (let slot = 0; slot < adapters; slot++) {
        const own = set * adapters + slot;
        let begin = 0;
        const entries = layer.widths.map((width, part) => {
          const entry = {
            a: ptrAdd(a.ptr, (own * layer.widths.length + part) * rank * layer.k * bytes),
            b: ptrAdd(b.ptr, (own * columnsOf(layer) + begin) * rank * bytes),
            ...{ rank, scale: 0.01, begin, width },
          };
          begin += width;
          return entry;
        });
        projection.adapters.set(slot, entries);
      }
    }
    const timed = (): number => {
      const submit = (set: number) => {
        const projection = this.#projections[set]!;
        const y = layer.gated ? projection.forwardGated(x, "silu") : projection.forward(x);
        y.dispose();
      };
      return timeRotating(device, sets, submit, options).medianUs;
    };
    const base = timed();
    state.slots = slots;
    const adapted = timed();
    for (const projection of this.#projections) {
      projection.adapters?.dispose();
      projection.adapters = undefined;
    }
    return { base, adapted };
  }

  [Symbol.dispose](): void {
    for (const projection of this.#projections) projection.dispose();
  }
}

function columnsOf({ widths }: Layer): number {
  return widths.reduce((sum, width) => sum + width, 0);
}
