import { basename } from "node:path";
import { UnsupportedError } from "../../base/errors.ts";
import { ggmlBytes, ggmlType } from "../../base/ggml.ts";
import { elementCount } from "../../base/shape.ts";
import type { Device } from "../../driver/device.ts";
import type { ModelConfig } from "../../formats/config/model-config.ts";
import { ggufModel } from "../../formats/gguf/export/metadata.ts";
import { isMixture, type MixtureName, mixtureBase, mixtureFileType } from "../../formats/gguf/export/mixture.ts";
import { type GgufPlanOptions, planGgufTensors } from "../../formats/gguf/export/tensors.ts";
import {
  endTokenMetadata,
  modelName,
  templateMetadata,
  tokenizerMetadata,
} from "../../formats/gguf/export/tokenizer.ts";
import { GgufParts } from "../../formats/gguf/parts.ts";
import { GgufSink } from "../../formats/gguf/sink.ts";
import type { GgufValue } from "../../formats/gguf/values.ts";
import { AdapterFiles, sourcePaths } from "../../formats/model-files/adapter.ts";
import type { ModelFiles } from "../../formats/model-files/model-files.ts";
import { checkDestination } from "../../formats/replace-directory.ts";
import { refuseForeignWeights } from "../../formats/stored/foreign.ts";
import { type StoredWeight, storedBytes } from "../../formats/stored/stored-weights.ts";
import type { TokenizerFiles } from "../../formats/tokenizer/files.ts";
import { Tokenizer } from "../../formats/tokenizer/tokenizer.ts";
import type { WeightSource } from "../../formats/weight-source.ts";
import type { LoadedParameters } from "../loaded-parameters.ts";
import { checkBelongTogether, decoderPrefix } from "./belong-together.ts";
import { type ExportOptions, exportedWeights } from "./checkpoint.ts";
import type { GgufFormat } from "./formats.ts";
import { GgufWeightLoader } from "./gguf-weights.ts";
import { ModelValues } from "./model-values.ts";
import { readAhead } from "./read-ahead.ts";
import { StoredValues } from "./stored-values.ts";
import { type ExportSummary, summarize } from "./summary.ts";

export interface GgufExportOptions extends ExportOptions {
  readonly format: GgufFormat;
  /** Every matrix in the type, or in that of most of a mixture; the head too, which is Q8_0 otherwise where the type is one of blocks. */
  readonly pure?: boolean | undefined;
  /** The network of the model, whose values count before those of the files. */
  readonly loaded?: LoadedParameters | undefined;
}

/** `general.file_type`, by the type that most matrices have. Source: llama.cpp's enum of file types. */
const fileTypes: Readonly<Record<Exclude<GgufFormat, MixtureName>, number>> = {
  ...{ f32: 0, f16: 1, bf16: 32, q4_0: 2, q4_1: 3, q5_0: 8, q5_1: 9, q8_0: 7 },
};

/**
 * Writes a model as one GGUF file, as llama.cpp's converter and its quantization do: matrices in `format`, or in the K types that such
 * a mixture has for each; vectors and routers in float32; a matrix whose rows are no whole number of blocks in a type of shorter ones,
 * or float16. The head (the embedding, where that is the head) is Q6_K in a mixture, and in the older types Q8_0 at least, where
 * llama.cpp has Q6_K. Tokenizer and chat template are embedded. The file is whole under its name or not there. `device` is asked for
 * only when weights are quantized in the source or become K types, since everything else is converted on the host.
 * Throws FileError, FormatError, UnsupportedError, ArgumentError.
 */
export async function exportGguf(
  files: ModelFiles,
  path: string,
  device: () => Device,
  options: GgufExportOptions,
): Promise<ExportSummary> {
  checkDestination(path, "file", { force: options.force, source: sourcePaths(files) });
  const config = files.readConfig();
  using source = files.openWeights();
  refuseForeignWeights(source, files.path, config.quantization);
  checkBelongTogether(config, exportedWeights(source, config), files.path);
  if (options.loaded?.untiedHead) {
    throw new UnsupportedError(
      `${files.path}: its head was the embedding when it was loaded and is no more; savePretrained it, and export what that wrote`,
    );
  }
  const { architecture, metadata, rotaryTensors } = ggufModel(config);
  const tokenizer = files.readTokenizer();
  metadata.set("general.name", { type: "string", value: modelName(basename(files.path), tokenizer) });
  metadata.set("general.file_type", { type: "uint32", value: fileTypeOf(options.format) });
  metadata.set("general.quantization_version", { type: "uint32", value: 2 });
  for (const [key, value] of embeddedTokenizer(files, tokenizer, config)) metadata.set(key, value);
  const plan = { architecture, ...typesOf(options.format, config), pure: options.pure ?? false, path: files.path };
  const tensors = planGgufTensors(decoderWeights(source, config), plan);
  const rotary = [...rotaryTensors].map(([name, data]) => ({ name, type: ggmlType("F32"), shape: [data.length] }));
  using sink = new GgufSink(path, metadata, [...rotary, ...tensors]);
  for (const [name, data] of rotaryTensors) sink.write(name, new Uint8Array(data.buffer));
  using stored = new StoredValues(source, device);
  const values = new ModelValues(stored, options.loaded);
  using loader = new GgufWeightLoader(values, architecture, config, options.signal);
  const moves = tensors.flatMap(({ name, type, weights }) => weights.map((weight) => ({ name, type, weight })));
  const totalBytes = moves.reduce((sum, { weight }) => sum + storedBytes(weight), 0);
  let doneBytes = 0;
  for await (const [{ name, weight }, loaded] of readAhead(moves, (one) => loader.load(one.weight, one.type))) {
    await loaded.write((bytes) => sink.write(name, bytes));
    doneBytes += storedBytes(weight);
    options.onProgress?.({ doneBytes, totalBytes });
  }
  sink.finish();
  return summarize(
    path,
    tensors.map((tensor) => ({
      type: tensor.type.name,
      sizeBytes: ggmlBytes(tensor.type, elementCount(tensor.shape)),
    })),
  );
}

function fileTypeOf(format: GgufFormat): number {
  return isMixture(format) ? mixtureFileType(format) : fileTypes[format];
}

function typesOf(format: GgufFormat, config: ModelConfig): Pick<GgufPlanOptions, "type" | "mixture"> {
  if (!isMixture(format)) return { type: ggmlType(format) };
  const { numHiddenLayers: layers, numAttentionHeads: heads, numKeyValueHeads: kvHeads } = config;
  return { type: mixtureBase(format), mixture: { name: format, model: { layers, heads, kvHeads } } };
}

/** That of a GGUF file as it is, so that nothing is lost that only other programs read. */
function embeddedTokenizer(
  files: ModelFiles,
  tokenizer: TokenizerFiles,
  config: ModelConfig,
): Iterable<[string, GgufValue]> {
  const text = files instanceof AdapterFiles ? files.text : files;
  const isResized = files instanceof AdapterFiles && files.vocabSize !== undefined;
  if (text.form === "gguf" && !isResized) {
    using parts = GgufParts.open(text.path);
    return [...parts.metadata.entries].filter(([key]) => key.startsWith("tokenizer."));
  }
  const { eosTokenIds } = files.readGenerationConfig();
  return [
    ...tokenizerMetadata(tokenizer, config.vocabSize),
    ...endTokenMetadata(eosTokenIds.length > 0 ? eosTokenIds : config.eosTokenIds, new Tokenizer(tokenizer)),
    ...chatTemplates(files),
  ];
}

/** Base models have none. */
function chatTemplates(files: ModelFiles): Map<string, GgufValue> {
  try {
    return templateMetadata(files.readTemplates());
  } catch (error) {
    if (error instanceof UnsupportedError) return new Map();
    throw error;
  }
}

/** The weights of the decoder and its head, named as in a checkpoint that holds nothing else. */
function decoderWeights(source: WeightSource, config: ModelConfig): [name: string, weight: StoredWeight][] {
  const weights = exportedWeights(source, config);
  const prefix = decoderPrefix(weights);
  return weights.flatMap((weight): [string, StoredWeight][] => {
    if (/(^|\.)lm_head\.weight$/.test(weight.name)) return [["lm_head.weight", weight]];
    if (weight.name.startsWith(prefix)) return [[`model.${weight.name.slice(prefix.length)}`, weight]];
    return config.isLanguagePart ? [] : [[weight.name, weight]];
  });
}
