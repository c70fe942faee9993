import { type DType, float32, int32 } from "../src/base/dtype.ts";
import { ArgumentError } from "../src/base/errors.ts";
import { type DevicePtr, ptrAdd } from "../src/driver/api.ts";
import type { Device } from "../src/driver/device.ts";
import { floatVariant } from "../src/kernels/float-variant.ts";
import { combineExperts } from "../src/kernels/moe/combine.ts";
import { expertsMachine, type GroupedProductArgs, groupedProduct } from "../src/kernels/moe/grouped.ts";
import { groupedQuantProduct } from "../src/kernels/moe/grouped-quant.ts";
import { planExperts } from "../src/kernels/moe/plan.ts";
import { groupTableInts, routeExperts, routerLogits } from "../src/kernels/moe/route.ts";
import { QuantizedWeight } from "../src/tensor/quantized-weight.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { defineBench, positiveInteger } from "./support/bench.ts";
import { loadProbes, readBandwidth } from "./support/probes.ts";
import { parseDtype } from "./support/product.ts";
import { parseStored, randomWeight, type StoredAs } from "./support/quant-product.ts";
import type { Row } from "./support/table.ts";
import { timeRotating } from "./support/timing.ts";

/** One layer: E, k, C and F. */
interface Layer {
  readonly experts: number;
  readonly chosen: number;
  readonly c: number;
  readonly f: number;
}

const layers: Readonly<Record<string, Layer>> = {
  "qwen3-30b-a3b": { experts: 128, chosen: 8, c: 2048, f: 768 },
  "mixtral-8x7b": { experts: 8, chosen: 2, c: 4096, f: 14336 },
};

/**
 * A mixture of experts by part. Every call has another input, so that it goes to other experts, and all experts together are
 * far beyond L2. `share of limit` is the time in which the bytes of the experts that are read, and of the router, pass at
 * the read bandwidth of the same run, over the time of the whole layer.
 */
export const bench = defineBench({
  name: "moe",
  options: {
    shape: {
      help: `one of ${Object.keys(layers).join(", ")}; several, comma-separated`,
      default: Object.keys(layers).join(","),
    },
    dtype: { help: "bfloat16, float16 or float32", default: "bfloat16" },
    quant: { help: "how experts are stored, if not in the dtype: nf4, fp4, q4_k, q8_0, …" },
    tokens: { help: "values of T, comma-separated", default: "1,2,4,8,16,64,512,4096" },
    repeats: { help: "timed replays, of which the median counts", default: "15" },
  },
  measure({ device, table }, options) {
    const dtype = parseDtype(options.dtype);
    const repeats = positiveInteger("repeats", options.repeats);
    const stored = options.quant === undefined ? undefined : parseStored(options.quant);
    if (stored && "codes" in stored && stored.codes.nested) {
      throw new ArgumentError("--quant: experts have float32 absmax; use nf4 or fp4");
    }
    const bandwidth = readBandwidth(device);
    for (const name of options.shape.split(",")) {
      const layer = Object.hasOwn(layers, name) ? layers[name] : undefined;
      if (!layer) throw new ArgumentError(`--shape: "${name}" is not known; use ${Object.keys(layers).join(" or ")}`);
      const rows: Row[] = [];
      using weights = new LayerWeights(device, layer, dtype, stored);
      for (const tokens of options.tokens.split(",").map((text) => positiveInteger("tokens", text))) {
        using data = new LayerData(weights, tokens);
        rows.push(measure(data, bandwidth, repeats));
      }
      const { experts, chosen, c, f } = layer;
      table(
        `Mixture of experts, ${name} (${chosen} of ${experts}, C ${c}, F ${f}), ${options.quant ? `${options.quant}, ` : ""}${dtype.name}; read bandwidth ${bandwidth.toFixed(2)} TB/s; medians of ${repeats}`,
        rows,
      );
    }
  },
});

function measure(data: LayerData, bandwidth: number, repeats: number): Row {
  const { layer, dtype } = data.weights;
  const read = data.expertsRead();
  const time = (run: (set: number) => void): number =>
    timeRotating(data.weights.device, data.sets, run, { repeats }).medianUs;
  const gateUpUs = time((set) => data.gateUp(set));
  const downUs = time((set) => data.down(set));
  const layerUs = time((set) => data.all(set));
  const half = data.weights.down.sizeBytes / layer.experts; // of one projection
  const bytes = read * 3 * half + layer.experts * layer.c * dtype.bytes;
  const flops = 2 * data.slots * layer.c * layer.f;
  return {
    tokens: data.tokens,
    kernel: data.plan.kernel,
    "experts read": read,
    "us routing": time((set) => data.route(set)),
    "us gate, up": gateUpUs,
    "us down": downUs,
    "us combine": time((set) => data.combine(set)),
    "us layer": layerUs,
    "gate, up TB/s": (read * 2 * half) / gateUpUs / 1e6,
    "down TB/s": (read * half) / downUs / 1e6,
    "gate, up TFLOP/s": (2 * flops) / gateUpUs / 1e6,
    "down TFLOP/s": flops / downUs / 1e6,
    "share of limit": bytes / bandwidth / 1e6 / layerUs,
  };
}

class LayerWeights implements Disposable {
  readonly device: Device;
  readonly layer: Layer;
  readonly dtype: DType;
  readonly router: Tensor;
  readonly gateUp: Tensor | QuantizedWeight;
  readonly down: Tensor | QuantizedWeight;

  constructor(device: Device, layer: Layer, dtype: DType, stored: StoredAs | undefined) {
    const { experts: e, c, f } = layer;
    const probes = loadProbes(device);
    let seed = 1;
    const random = (shape: number[]): Tensor => {
      const tensor = Tensor.empty(shape, { dtype, device });
      probes.fillRandom(tensor.ptr, tensor.sizeBytes, dtype, seed++);
      return tensor;
    };
    this.device = device;
    this.layer = layer;
    this.dtype = dtype;
    this.router = random([e, c]);
    const experts = (n: number, k: number) =>
      stored ? randomWeight(device, probes, [e * n, k], dtype, stored, seed++) : random([e, n, k]);
    this.gateUp = experts(2 * f, c);
    this.down = experts(c, f);
  }

  [Symbol.dispose](): void {
    for (const weight of [this.router, this.gateUp, this.down]) weight.dispose();
  }

  multiply(weight: Tensor | QuantizedWeight, p: Omit<GroupedProductArgs, "b">): void {
    const { stream } = this.device;
    if (weight instanceof QuantizedWeight) groupedQuantProduct(stream, { ...p, weight: weight.data });
    else groupedProduct(stream, { ...p, b: weight.ptr });
  }
}

/** Inputs and intermediates of several calls of one size, each routed by itself. */
class LayerData implements Disposable {
  readonly weights: LayerWeights;
  readonly tokens: number;
  readonly slots: number;
  readonly sets: number;
  readonly plan;
  readonly #parts;

  constructor(weights: LayerWeights, tokens: number) {
    const { device, dtype, layer } = weights;
    const { experts, chosen, c, f } = layer;
    this.weights = weights;
    this.tokens = tokens;
    this.slots = tokens * chosen;
    this.sets = tokens <= 64 ? 16 : 2;
    const shape = {
      ...{ tokens, chosen, experts, vector: true, dtype: floatVariant("bench", dtype).dtype },
      ...(weights.down instanceof QuantizedWeight && { quantized: "multiplied" as const }),
    };
    this.plan = planExperts(shape, expertsMachine(device));
    const { slots, sets } = this;
    const make = (elements: number, type: DType) => new Rotating(device, sets, elements, type);
    this.#parts = {
      x: make(tokens * c, dtype),
      out: make(tokens * c, dtype),
      logits: make(tokens * experts, float32),
      ids: make(slots, int32),
      mix: make(slots, float32),
      order: make(slots, int32),
      table: make(groupTableInts(slots, experts, this.plan.groupRows), int32),
      hidden: make(slots * f, dtype),
      results: make(slots * c, float32),
    };
    const { x, out } = this.#parts;
    const probes = loadProbes(device);
    probes.fillRandom(x.at(0), x.bytes, dtype, 77);
    probes.fillRandom(out.at(0), out.bytes, dtype, 78);
    for (let set = 0; set < sets; set++) this.all(set);
    device.stream.synchronize();
  }

  /** Different experts of a call, on average. */
  expertsRead(): number {
    const { slots, sets } = this;
    const ids = this.#parts.ids.tensor.toArray() as Int32Array;
    let sum = 0;
    for (let set = 0; set < sets; set++)
      sum += new Set(ids.subarray(set * this.#parts.ids.stride).subarray(0, slots)).size;
    return sum / sets;
  }

  route(set: number): void {
    const { weights, tokens, plan } = this;
    const { experts, chosen, c: cols } = weights.layer;
    const { x, logits, ids, mix, order, table } = this.#parts;
    const { stream } = weights.device;
    const at = logits.at(set);
    routerLogits(stream, {
      logits: at,
      x: x.at(set),
      weight: weights.router.ptr,
      kernel: plan.kernel,
      tokens,
      experts,
      cols,
      dtype: weights.dtype,
    });
    routeExperts(stream, {
      ids: ids.at(set),
      weights: mix.at(set),
      order: order.at(set),
      table: table.at(set),
      logits: at,
      tokens,
      experts,
      chosen,
      normalize: true,
      groupRows: plan.groupRows,
    });
  }

  gateUp(set: number): void {
    const { c, f, chosen } = this.weights.layer;
    const { x, hidden } = this.#parts;
    this.weights.multiply(this.weights.gateUp, {
      ...this.#common(set),
      out: hidden.at(set),
      a: x.at(set),
      n: f,
      k: c,
      share: chosen,
      gate: "silu",
    });
  }

  down(set: number): void {
    const { c, f } = this.weights.layer;
    const { hidden, results } = this.#parts;
    this.weights.multiply(this.weights.down, {
      ...this.#common(set),
      out: results.at(set),
      outDtype: float32,
      a: hidden.at(set),
      n: c,
      k: f,
      share: 1,
      followsProduct: true,
    });
  }

  combine(set: number): void {
    const { out, results, mix } = this.#parts;
    const { c: cols, chosen } = this.weights.layer;
    combineExperts(this.weights.device.stream, {
      out: out.at(set),
      residual: out.at(set),
      y: results.at(set),
      weights: mix.at(set),
      tokens: this.tokens,
      cols,
      chosen,
      dtype: this.weights.dtype,
    });
  }

  all(set: number): void {
    this.route(set);
    this.gateUp(set);
    this.down(set);
    this.combine(set);
  }

  #common(set: number) {
    const { plan, slots, weights } = this;
    const { experts, chosen } = weights.layer;
    const { order, table } = this.#parts;
    return { plan, order: order.at(set), table: table.at(set), slots, chosen, experts, dtype: weights.dtype };
  }

  [Symbol.dispose](): void {
    for (const part of Object.values(this.#parts)) part.tensor.dispose();
  }
}

/** One buffer for every set, each 256-byte aligned. */
class Rotating {
  readonly tensor: Tensor;
  /** Elements from one set to the next. */
  readonly stride: number;
  readonly bytes: number;

  constructor(device: Device, sets: number, elements: number, dtype: DType) {
    this.stride = Math.ceil((elements * dtype.bytes) / 256) * (256 / dtype.bytes);
    this.tensor = Tensor.empty([sets * this.stride], { dtype, device });
    this.bytes = this.tensor.sizeBytes;
  }

  at(set: number): DevicePtr {
    return ptrAdd(this.tensor.ptr, set * this.stride * this.tensor.dtype.bytes);
  }
}
