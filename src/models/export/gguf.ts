import { basename } from "node:path";
import { bfloat16, type DType, float16, float32 } from "../../base/dtype.ts";
import { UnsupportedError } from "../../base/errors.ts";
import { type GgmlType, ggmlBytes, ggmlType } from "../../base/ggml.ts";
import { elementCount } from "../../base/shape.ts";
import type { Device } from "../../driver/device.ts";
import type { ModelConfig } from "../../formats/config/model-config.ts";
import type { GgufArchitecture } from "../../formats/gguf/architectures.ts";
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
import { quantizeGgml } from "../../formats/gguf/quantize.ts";
import { interleaveRows } from "../../formats/gguf/rewrite.ts";
import { GgufSink } from "../../formats/gguf/sink.ts";
import type { GgufValue } from "../../formats/gguf/values.ts";
import { sourcePaths } from "../../formats/model-files/adapter.ts";
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
import { kFormat, quantizeToK } from "./k-blocks.ts";
import { ModelValues } from "./model-values.ts";
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
/** Elements that are quantized at a time: some milliseconds, after which others get their turn. */
const sliceElements = 1 << 20;

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
  const values = new ModelValues(new StoredValues(source, device), options.loaded);
  const writer = new TensorWriter(values, architecture, config, options);
  const totalBytes = tensors.flatMap(({ weights }) => weights).reduce((sum, weight) => sum + storedBytes(weight), 0);
  let doneBytes = 0;
  for (const tensor of tensors) {
    for (const weight of tensor.weights) {
      await writer.write(weight, tensor.type, (bytes) => sink.write(tensor.name, bytes));
      doneBytes += storedBytes(weight);
      options.onProgress?.({ doneBytes, totalBytes });
    }
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
  if (files.form === "gguf") {
    using parts = GgufParts.open(files.path);
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

const plainTypes: Readonly<Record<string, DType>> = { F32: float32, F16: float16, BF16: bfloat16 };

/** Weights as the bytes that a file has for them. */
class TensorWriter {
  readonly #values: ModelValues;
  readonly #architecture: GgufArchitecture;
  readonly #config: ModelConfig;
  readonly #signal: AbortSignal | undefined;

  constructor(values: ModelValues, architecture: GgufArchitecture, config: ModelConfig, options: ExportOptions) {
    this.#values = values;
    this.#architecture = architecture;
    this.#config = config;
    this.#signal = options.signal;
  }

  /** Gives the bytes piece by piece, in order. */
  async write(weight: StoredWeight, type: GgmlType, give: (bytes: Uint8Array) => void): Promise<void> {
    this.#signal?.throwIfAborted();
    if (weight.kind === "ggml" && weight.type === type && !this.#values.isLoaded(weight.name)) {
      return give(this.#ordered(weight, await this.#values.stored.bytes(weight.info)));
    }
    const kType = kFormat(type);
    if (kType) return give(this.#ordered(weight, await quantizeToK(this.#values, weight, kType, this.#signal)));
    const dtype = plainTypes[type.name];
    const bytes = await this.#values.bytes(weight, dtype ?? float32);
    if (dtype) return give(this.#ordered(weight, this.#normed(weight, bytes)));
    const rows = this.#ordered(weight, bytes);
    const values = new Float32Array(rows.buffer, rows.byteOffset, rows.byteLength / 4);
    for (let begin = 0; begin < values.length; begin += sliceElements) {
      this.#signal?.throwIfAborted();
      give(quantizeGgml(type, values.subarray(begin, begin + sliceElements)));
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** The order of rows in the file: numbers and blocks alike, since rows move whole. */
  #ordered({ name, shape }: StoredWeight, bytes: Uint8Array): Uint8Array {
    const interleaves = this.#architecture.interleavedRotary && /\.self_attn\.[qk]_proj\./.test(name);
    return interleaves ? interleaveRows(this.#config.headDim, bytes.length / shape[0]!).apply(bytes) : bytes;
  }

  /** Gemma's norms, in float32, with the one that checkpoints leave to the model. */
  #normed({ name }: StoredWeight, bytes: Uint8Array): Uint8Array {
    if (!this.#architecture.normsPlusOne || !name.endsWith("norm.weight")) return bytes;
    const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
    return new Uint8Array(values.map((weight) => weight + 1).buffer);
  }
}
