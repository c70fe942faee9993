import type { DTypeName } from "../src/base/dtype.ts";
import { ArgumentError } from "../src/base/errors.ts";
import type { Device } from "../src/driver/device.ts";
import { Engine } from "../src/engine/engine.ts";
import { LanguageModel } from "../src/engine/language-model.ts";
import type { TokenRequest } from "../src/engine/request.ts";
import { randomNetwork } from "../src/models/load-network.ts";
import type { CausalNetwork } from "../src/models/network.ts";
import { visibleKvBytes } from "../src/nn/cache-groups.ts";
import type { LoadedAdapter } from "../src/nn/lora/adapter-set.ts";
import { MixtureOfExperts } from "../src/nn/moe.ts";
import { defineBench, positiveInteger } from "./support/bench.ts";
import { readBandwidth } from "./support/probes.ts";
import { parseDtype } from "./support/product.ts";
import { RandomAdapter } from "./support/random-adapter.ts";
import { shapeConfig } from "./support/shapes.ts";
import type { Row } from "./support/table.ts";

/**
 * Decoding with the engine as users call it: prompts of `--context` random tokens, then `--tokens` tokens each, greedy.
 * The limit is what must be read for a token (weights but for the rows of the embedding that are not looked up, and the
 * keys and values of the context) at the read bandwidth measured in the same run.
 */
export const bench = defineBench({
  name: "decode",
  options: {
    shape: { help: "size of the model, with --weights random", default: "llama-3.1-8b" },
    weights: { help: "random, or the directory of a checkpoint", default: "random" },
    dtype: { help: "float32, float16 or bfloat16", default: "bfloat16" },
    quant: { help: "nf4 or fp4: quantizes the layers' matrices while they are loaded" },
    lora: { help: "the rank of a random adapter that every sequence has, on all projections of the layers" },
    batch: { help: "sequences, comma-separated for several runs", default: "1" },
    context: { help: "tokens of the prompt", default: "512" },
    tokens: { help: "tokens that each sequence adds", default: "128" },
    repeats: { help: "runs, of which the median counts", default: "5" },
  },
  async measure({ device, table }, options) {
    const dtype = parseDtype(options.dtype);
    const context = positiveInteger("context", options.context);
    const tokens = positiveInteger("tokens", options.tokens);
    const repeats = positiveInteger("repeats", options.repeats);
    if (tokens < 8) throw new ArgumentError("--tokens: at least 8, so that captured steps are most of what is timed");
    const bandwidth = readBandwidth(device);
    using network = await open(options, device, dtype.name);
    using engine = new Engine(network);
    const rank = options.lora === undefined ? undefined : positiveInteger("lora", options.lora);
    const adapter = rank === undefined ? undefined : await loadRandomAdapter(engine, rank);
    const rows: Row[] = [];
    for (const batch of options.batch.split(",").map((text) => positiveInteger("batch", text))) {
      const runs: Run[] = [];
      for (let i = 0; i <= repeats; i++) runs.push(await run(engine, { batch, context, tokens, adapter }));
      runs.shift(); // loads modules and captures graphs
      const median = (pick: (r: Run) => number) => runs.map(pick).sort((a, b) => a - b)[runs.length >> 1]!;
      const stepMs = median((r) => r.stepMs);
      const bytes = bytesPerStep(network, batch, context + tokens / 2) + (adapter?.sizeBytes ?? 0);
      const limitMs = bytes / bandwidth / 1e9;
      rows.push({
        batch,
        "tok/s": (1000 * batch) / stepMs,
        "ms a step": stepMs,
        "GB a step": bytes / 1e9,
        "limit tok/s": (1000 * batch) / limitMs,
        "share of limit": limitMs / stepMs,
        "host us a step": median((r) => r.hostUs),
        "prefill ms": median((r) => r.prefillMs),
      });
    }
    table(
      `decode, ${options.weights === "random" ? options.shape : options.weights}, ${dtype.name}${options.quant ? `, ${options.quant}` : ""}${rank ? `, LoRA of rank ${rank}` : ""}, context ${context} + ${tokens}; read bandwidth ${bandwidth.toFixed(2)} TB/s; medians of ${repeats}`,
      rows,
    );
  },
});

interface Run {
  readonly prefillMs: number;
  readonly stepMs: number;
  readonly hostUs: number;
}

async function open(
  { weights, shape, quant }: { weights: string; shape: string; quant: string | undefined },
  device: Device,
  dtype: DTypeName,
): Promise<CausalNetwork> {
  if (weights === "random") return randomNetwork(shapeConfig(shape), device, dtype, quant);
  return (await LanguageModel.fromPretrained(weights, { device, dtype, quantization: quant })).network;
}

async function loadRandomAdapter(engine: Engine, rank: number): Promise<LoadedAdapter> {
  using files = new RandomAdapter(engine.network, rank);
  return await engine.adapters.load("random", files.directory);
}

interface Work {
  readonly batch: number;
  readonly context: number;
  readonly tokens: number;
  readonly adapter: LoadedAdapter | undefined;
}

async function run(engine: Engine, { batch, context, tokens, adapter }: Work): Promise<Run> {
  const { vocabSize } = engine.network;
  const requests: TokenRequest[] = Array.from({ length: batch }, (_, b) => ({
    promptIds: Array.from({ length: context }, (_, i) => (i * 7919 + b * 104_729 + 1) % vocabSize),
    sampling: { temperature: 0, topK: 0, topP: 1, minP: 0, seed: BigInt(b) },
    maxNewTokens: tokens,
    stopIds: new Set(),
    adapter,
  }));
  const { statistics } = engine;
  const begin = performance.now();
  let first = 0;
  let steps = 0;
  let host = { steps: 0, ms: 0 };
  for await (const event of engine.run(requests)) {
    if (event.request !== 0) continue;
    steps++;
    if (steps === 1) {
      first = performance.now();
      host = { steps: statistics.decodeSteps, ms: statistics.decodeHostMs };
    }
  }
  const end = performance.now();
  return {
    prefillMs: first - begin,
    stepMs: (end - first) / (steps - 1),
    hostUs: (1000 * (statistics.decodeHostMs - host.ms)) / (statistics.decodeSteps - host.steps),
  };
}

/** What one step must read at least; of a mixture of experts those that an even choice would reach. */
function bytesPerStep(network: CausalNetwork, batch: number, context: number): number {
  const parameters = new Map(network.namedParameters());
  const embedding = parameters.get("embedding.weight");
  const tied = embedding !== undefined && embedding === parameters.get("head.weight");
  let weights = network.parameterBytes - (embedding && !tied ? embedding.sizeBytes : 0);
  for (const module of network.modules()) {
    if (module instanceof MixtureOfExperts) weights += module.bytesRead(batch) - module.parameterBytes;
  }
  return weights + batch * visibleKvBytes(network.cacheShape, context);
}
