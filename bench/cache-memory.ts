import { ArgumentError } from "../src/base/errors.ts";
import type { Device } from "../src/driver/device.ts";
import { cacheFootprint } from "../src/engine/cache-plan.ts";
import { Engine } from "../src/engine/engine.ts";
import type { ModelConfig } from "../src/formats/config/model-config.ts";
import { randomNetwork } from "../src/models/load-network.ts";
import { cacheShapeOf } from "../src/models/parts.ts";
import { defineBench, positiveInteger } from "./support/bench.ts";
import { parseDtype } from "./support/product.ts";
import { shapeConfig } from "./support/shapes.ts";
import type { Row } from "./support/table.ts";

/**
 * What the cache holds of one sequence: layers with a window keep that window (and a pass of the prompt beside it, while the
 * prompt is read), beside what the same layers would hold if they saw everything. Computed from the model's shape, by what the
 * engine plans with; `--run yes` also reads such a prompt with random weights and prints what was allocated.
 */
export const bench = defineBench({
  name: "cache-memory",
  deviceOnDemand: true,
  options: {
    shapes: { help: "sizes of models, comma-separated", default: "gemma-2-9b,gemma-3-12b" },
    context: { help: "tokens of the sequence, comma-separated for several", default: "32768" },
    dtype: { help: "float32, float16 or bfloat16", default: "bfloat16" },
    run: { help: "yes: also generate on the device after such a prompt", default: "no" },
  },
  async measure(context, options) {
    const dtype = parseDtype(options.dtype);
    if (options.run !== "yes" && options.run !== "no")
      throw new ArgumentError(`--run: "${options.run}" is not yes or no`);
    const rows: Row[] = [];
    for (const shape of options.shapes.split(",")) {
      for (const tokens of options.context.split(",").map((text) => positiveInteger("context", text))) {
        const config = { ...shapeConfig(shape), maxPositionEmbeddings: tokens + newTokens };
        const groups = cacheFootprint(cacheShapeOf(config, dtype), tokens);
        const sum = (pick: (group: (typeof groups)[number]) => number) =>
          groups.reduce((n, group) => n + pick(group), 0);
        rows.push({
          shape,
          context: tokens,
          layers: groups.map(({ layers, window }) => `${layers} see ${window || "all"}`).join(", "),
          "decoding GB": sum((g) => g.bytes) / 1e9,
          "prefill GB": sum((g) => g.prefillBytes) / 1e9,
          "all layers full GB": sum((g) => g.fullBytes) / 1e9,
          "of full": sum((g) => g.prefillBytes) / sum((g) => g.fullBytes),
          ...(options.run === "yes" ? await allocated(context.device, config, dtype.name, tokens) : {}),
        });
      }
    }
    context.table(`cache of keys and values of one sequence, ${dtype.name}`, rows);
  },
});

/** Enough that blocks which the window has left are in use again. */
const newTokens = 64;

/** What the cache takes in device memory once a prompt of `tokens` tokens was read and `newTokens` were added, and how long that took. */
async function allocated(device: Device, config: ModelConfig, dtype: string, tokens: number): Promise<Row> {
  using network = randomNetwork(config, device, dtype as "float32");
  using engine = new Engine(network);
  const promptIds = Array.from({ length: tokens }, (_, i) => (i * 7919 + 1) % config.vocabSize);
  const sampling = { temperature: 0, topK: 0, topP: 1, minP: 0, seed: 0n };
  const begin = performance.now();
  let first = 0;
  for await (const _ of engine.run([{ promptIds, sampling, maxNewTokens: newTokens, stopIds: new Set() }])) {
    first ||= performance.now();
  }
  const end = performance.now();
  return {
    "allocated GB": engine.cacheBytes / 1e9,
    "prefill ms": first - begin,
    "ms a step": (end - first) / (newTokens - 1),
  };
}
