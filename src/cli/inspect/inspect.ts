import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { float16 } from "../../base/dtype.ts";
import { UnsupportedError } from "../../base/errors.ts";
import type { ModelConfig } from "../../formats/config/model-config.ts";
import { GgufParts } from "../../formats/gguf/parts.ts";
import { rawGgufWeights } from "../../formats/gguf/raw-weights.ts";
import { isAdapter } from "../../formats/model-files/adapter.ts";
import type { ModelFiles } from "../../formats/model-files/model-files.ts";
import { LoraAdapter } from "../../formats/peft/adapter.ts";
import { openFiles } from "../../formats/safetensors/checkpoint.ts";
import { type StoredWeight, storedWeights } from "../../formats/stored/stored-weights.ts";
import { findModel } from "../../models/find-model.ts";
import { checkLoadable } from "../../models/loadable.ts";
import { type CacheSummary, type Inspection, type ModelShape, summarise } from "./inspection.ts";

/** Looks into a model, an adapter or a safetensors file without opening a device or reading a weight. Throws as its reader does. */
export function inspect(name: string): Inspection {
  const path = resolve(name);
  if (path.endsWith(".safetensors") && existsSync(path)) return inspectTensors(path);
  if (isAdapter(path)) return inspectAdapter(path);
  return inspectModel(findModel(name));
}

const none = { architecture: undefined, refusal: undefined, shape: undefined, cache: undefined, adapter: undefined };

function inspectModel(files: ModelFiles): Inspection {
  const { form, path } = files;
  let config: ModelConfig;
  try {
    config = files.readConfig();
  } catch (error) {
    if (form === "gguf" && error instanceof UnsupportedError) return inspectUnknownGguf(path, error);
    throw error;
  }
  using source = files.openWeights();
  const refusal = reasonOf(() => checkLoadable(config, source, path));
  return {
    ...none,
    path,
    form,
    architecture: config.architecture ?? config.modelType,
    refusal,
    ...summarise(storedWeights(source).values()),
    shape: shapeOf(config),
    cache: cacheOf(config),
  };
}

/** A GGUF file of an architecture that is not known: its own names, and why it does not run. */
function inspectUnknownGguf(path: string, error: UnsupportedError): Inspection {
  using parts = GgufParts.open(path);
  const architecture = parts.metadata.find("text", "general.architecture");
  return { ...none, path, form: "gguf", architecture, refusal: error.message, ...summarise(rawGgufWeights(parts)) };
}

function inspectTensors(path: string): Inspection {
  using source = openFiles([path]);
  return { ...none, path, form: "safetensors", ...summarise(storedWeights(source).values()) };
}

function inspectAdapter(path: string): Inspection {
  using lora = LoraAdapter.open(path);
  const modules = [...lora.modules.values()];
  const weights: StoredWeight[] = [...storedWeights(lora.source).values()];
  return {
    ...none,
    path,
    form: "adapter",
    ...summarise(weights),
    adapter: {
      baseModel: lora.config.baseModel,
      targetModules: lora.config.targetModules,
      ranks: distinct(modules.map((module) => module.rank)),
      scales: distinct(modules.map((module) => module.scale)),
      dora: lora.config.useDora,
      replaced: [...lora.replaced.keys()],
    },
  };
}

function shapeOf(config: ModelConfig): ModelShape {
  return {
    layers: config.numHiddenLayers,
    hiddenSize: config.hiddenSize,
    heads: config.numAttentionHeads,
    kvHeads: config.numKeyValueHeads,
    headDim: config.headDim,
    vocabSize: config.vocabSize,
    contextLength: config.maxPositionEmbeddings,
  };
}

const cacheTokens = 1024;

function cacheOf(config: ModelConfig): CacheSummary {
  const dtype = config.dtype ?? float16;
  const perToken = 2 * config.numKeyValueHeads * config.headDim * dtype.bytes;
  const slidingLayers = config.layerTypes.filter((type) => type === "sliding_attention").length;
  const sliding = slidingLayers * perToken * Math.min(cacheTokens, config.slidingWindow ?? cacheTokens);
  const full = (config.layerTypes.length - slidingLayers) * perToken * cacheTokens;
  return {
    tokens: cacheTokens,
    dtype: dtype.name,
    bytes: full + sliding,
    slidingBytes: sliding,
    slidingWindow: config.slidingWindow,
  };
}

/** The message of an UnsupportedError, or undefined when nothing is thrown. */
function reasonOf(check: () => unknown): string | undefined {
  try {
    check();
    return undefined;
  } catch (error) {
    if (error instanceof UnsupportedError) return error.message;
    throw error;
  }
}

function distinct(values: readonly number[]): number[] {
  return [...new Set(values)].sort((a, b) => a - b);
}
