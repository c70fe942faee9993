import { basename } from "node:path";
import { type DTypeName, dtype } from "../base/dtype.ts";
import { ArgumentError, UnsupportedError } from "../base/errors.ts";
import type { Device } from "../driver/device.ts";
import type { ChatMessage, ChatTemplate } from "../formats/chat-template/chat-template.ts";
import { stopTokenIds } from "../formats/chat-template/stop-tokens.ts";
import type { GenerationConfig } from "../formats/config/generation-config.ts";
import type { ModelConfig } from "../formats/config/model-config.ts";
import type { ModelFiles } from "../formats/model-files/model-files.ts";
import { PretrainedTokenizer } from "../models/auto-tokenizer.ts";
import { type CheckpointExportOptions, exportCheckpoint } from "../models/export/checkpoint.ts";
import { formatOf, ggufFormatOf, ggufFormats } from "../models/export/formats.ts";
import { exportGguf, type GgufExportOptions } from "../models/export/gguf.ts";
import type { ExportSummary } from "../models/export/summary.ts";
import { findModelWithAdapter } from "../models/find-model.ts";
import { type LoadOptions, loadNetwork } from "../models/load-network.ts";
import type { CausalNetwork } from "../models/network.ts";
import type { LoadedAdapter } from "../nn/lora/adapter-set.ts";
import { mergeAdapter } from "../nn/lora/merge.ts";
import { MergeOnlyError } from "../nn/lora/merge-only-error.ts";
import type { UploadOptions } from "../nn/upload.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { Engine } from "./engine.ts";
import {
  type AdapterChoice,
  checkGenerateOptions,
  type GenerateOptions,
  samplingDefaults,
} from "./generate-options.ts";
import type { TokenRequest } from "./request.ts";
import { samplingParameters } from "./sampling.ts";
import { type GenerationResult, TextAssembly } from "./text-assembly.ts";

/** Plain text (the tokenizer adds what begins a text), a dialogue (through the chat template), or token ids as they are. */
export type Prompt = string | readonly ChatMessage[] | readonly number[];

export interface GenerationChunk {
  readonly text: string;
  readonly tokenId: number;
}

export interface FromPretrainedOptions extends LoadOptions {
  /** A device or its name; by default LLCUDA_DEVICE, else the first GPU, else `sim`. */
  readonly device?: Device | string | undefined;
  /** The base model of an adapter, in place of the one that its config names: a path, or `demo`. */
  readonly base?: string | undefined;
  /** A LoRA adapter to load on top of the model, as if its own directory had been given with `base`. */
  readonly adapter?: string | undefined;
  /**
   * Adds the adapter to the weights instead of applying it beside them: as fast as the base alone, but for good. By default only
   * where the adapter works in no other way (DoRA, biases, norms), with a warning; false never does.
   */
  readonly merge?: boolean | undefined;
  /** A tokenizer that is loaded already; by default the model's own, read when it is first needed. */
  readonly tokenizer?: PretrainedTokenizer | undefined;
}

export interface SavePretrainedOptions extends Omit<CheckpointExportOptions, "format" | "loaded"> {
  /** By default what the model is in: NF4 of the kind that its files have, else the dtype that it computes in. */
  readonly format?: CheckpointExportOptions["format"] | undefined;
}

export type SaveGgufOptions = Omit<GgufExportOptions, "loaded">;

/** A causal language model, ready to generate: network, tokenizer, configs and engine. Dispose it to free its memory. */
export class LanguageModel implements Disposable {
  /** Where it was loaded from. */
  readonly files: ModelFiles;
  readonly config: ModelConfig;
  readonly generationConfig: GenerationConfig;
  readonly network: CausalNetwork;
  readonly engine: Engine;
  /** What the rotary frequencies are rounded to. */
  readonly rotaryDtype: DTypeName;
  /** The adapter of requests that name none; null for the base alone. Null unless the model was loaded as an adapter. */
  defaultAdapter: string | null = null;
  #tokenizer: PretrainedTokenizer | undefined;

  /** Use `fromPretrained`. */
  constructor(parts: {
    files: ModelFiles;
    config: ModelConfig;
    generationConfig: GenerationConfig;
    network: CausalNetwork;
    rotaryDtype?: DTypeName;
    tokenizer?: PretrainedTokenizer | undefined;
  }) {
    this.files = parts.files;
    this.config = parts.config;
    this.generationConfig = parts.generationConfig;
    this.network = parts.network;
    this.rotaryDtype = parts.rotaryDtype ?? "float32";
    this.#tokenizer = parts.tokenizer;
    this.engine = new Engine(parts.network);
  }

  /**
   * Loads a model directory, a `.gguf` file, or `demo`; of an adapter's directory, its base with the adapter, which then is
   * the default of requests, under the directory's name. Files and options are checked before a device is opened.
   * Throws FileError, FormatError, UnsupportedError, ArgumentError, DTypeError, DeviceError, OutOfMemoryError.
   */
  static async fromPretrained(name: string, options: FromPretrainedOptions = {}): Promise<LanguageModel> {
    const files = findModelWithAdapter(name, options);
    const config = files.readConfig();
    const generationConfig = files.readGenerationConfig();
    const rotaryDtype = dtype(options.rotaryDtype ?? "float32").name;
    const network = await loadNetwork(files, config, options.device, options);
    const model = new LanguageModel({
      files,
      config,
      generationConfig,
      network,
      rotaryDtype,
      tokenizer: options.tokenizer,
    });
    try {
      if (files.adapter !== undefined) await model.#start(files.adapter, options);
      return model;
    } catch (error) {
      model.dispose();
      throw error;
    }
  }

  async #start(directory: string, options: FromPretrainedOptions): Promise<void> {
    const { signal, merge } = options;
    const upload = { ...(signal && { signal }) };
    if (merge) return this.mergeAdapter(directory, upload);
    const name = basename(directory);
    try {
      await this.loadAdapter(name, directory, upload);
      this.defaultAdapter = name;
    } catch (error) {
      if (!(error instanceof MergeOnlyError) || merge === false) throw error;
      // Nobody asked for it to be apart, and merged is the only way that it works; into quantized weights not even that.
      await this.mergeAdapter(directory, upload).catch((cause) => {
        throw cause instanceof UnsupportedError ? error : cause;
      });
      process.emitWarning(`${directory}: ${error.reason}, so it was merged into the weights`, {
        type: "LlcudaWarning",
      });
    }
  }

  /** Names of the loaded adapters. */
  get adapters(): readonly string[] {
    return this.engine.adapters.names;
  }

  /**
   * Loads a PEFT LoRA adapter beside the model, under a name for requests to choose it by. Generation may run meanwhile; what
   * runs keeps the adapters it began with. Throws ArgumentError for a name that is taken, FileError, FormatError where the
   * adapter does not fit this model or changes nothing, UnsupportedError for adapters that can only be merged.
   */
  loadAdapter(name: string, directory: string, options: UploadOptions = {}): Promise<LoadedAdapter> {
    return this.engine.adapters.load(name, directory, options);
  }

  /** Takes an adapter away. Requests that run with it end first, then its memory is free. Throws ArgumentError. */
  unloadAdapter(name: string): void {
    this.engine.adapters.unload(name);
    if (this.defaultAdapter === name) this.defaultAdapter = null;
  }

  /** Adds a PEFT LoRA adapter to this model's weights, for good: see `mergeAdapter`. No generation may run. */
  async mergeAdapter(directory: string, options: UploadOptions = {}): Promise<void> {
    await mergeAdapter(this.network, directory, options);
    this.engine.forgetGraphs();
  }

  get device(): Device {
    return this.network.device;
  }

  /** Throws FileError when the model has none. */
  get tokenizer(): PretrainedTokenizer {
    this.#tokenizer ??= new PretrainedTokenizer(this.files);
    return this.#tokenizer;
  }

  /** The ids of a prompt. */
  encode(prompt: Prompt): readonly number[] {
    if (typeof prompt === "string") return this.tokenizer.encode(prompt);
    if (prompt.length === 0) throw new ArgumentError("the prompt is empty; give text, messages or token ids");
    if (typeof prompt[0] === "number") return prompt as readonly number[];
    return this.tokenizer.applyChatTemplate(prompt as readonly ChatMessage[]).ids;
  }

  /** Continues one prompt and resolves with the whole answer. */
  async generate(prompt: Prompt, options: GenerateOptions = {}): Promise<GenerationResult> {
    const [result] = await this.generateAll([prompt], options);
    return result!;
  }

  /** Continues several prompts in one batch; the answers are in the prompts' order. */
  async generateAll(prompts: readonly Prompt[], options: GenerateOptions = {}): Promise<GenerationResult[]> {
    const { adapter } = options;
    if (Array.isArray(adapter) && adapter.length !== prompts.length) {
      throw new ArgumentError(
        `adapter: there are ${adapter.length} choices for ${prompts.length} prompts; give one each`,
      );
    }
    const answers = prompts.map((prompt, i) => this.#answer(prompt, options, i));
    const requests = answers.map((answer) => answer.request);
    for await (const event of this.engine.run(requests, options.signal)) {
      const answer = answers[event.request]!;
      answer.text.push(event);
      if (answer.text.result) answer.end.abort();
    }
    return answers.map((answer) => answer.text.result!);
  }

  /** Continues one prompt and yields text as it becomes certain; returns the whole answer. */
  async *stream(prompt: Prompt, options: GenerateOptions = {}): AsyncGenerator<GenerationChunk, GenerationResult> {
    const answer = this.#answer(prompt, options);
    for await (const event of this.engine.run([answer.request], options.signal)) {
      const text = answer.text.push(event);
      if (answer.text.result) answer.end.abort();
      yield { text, tokenId: event.tokenId };
      if (answer.text.result) break;
    }
    return answer.text.result!;
  }

  /** Logits [T, V] of every position of a sequence, for evaluation; dispose them. */
  logits(ids: readonly number[], options: { readonly adapter?: AdapterChoice } = {}): Promise<Tensor> {
    return this.engine.logits(ids, this.adapterFor(options.adapter));
  }

  /**
   * log P(ids[i] | ids[0 … i - 1]), natural logarithms, for i from `from` (default 1) to the last: ids.length - from numbers.
   * Throws ArgumentError, ContextLengthError.
   */
  async logLikelihoods(
    ids: readonly number[],
    { from = 1, adapter }: { readonly from?: number; readonly adapter?: AdapterChoice } = {},
  ): Promise<Float32Array> {
    if (!(Number.isInteger(from) && from >= 1 && from < ids.length)) {
      throw new ArgumentError(
        `logLikelihoods: from must be a whole number from 1 to ${ids.length - 1} for ${ids.length} tokens, got ${from}`,
      );
    }
    using values = await this.engine.logLikelihoods(ids, from, this.adapterFor(adapter));
    return values.toArray() as Float32Array;
  }

  /** The adapter that a choice means. Throws ArgumentError when it is not loaded. */
  adapterFor(choice?: AdapterChoice): LoadedAdapter | undefined {
    const name = choice === undefined ? this.defaultAdapter : choice;
    return name === null ? undefined : this.engine.adapters.get(name);
  }

  /**
   * Writes the model as a folder that `fromPretrained` here and in transformers loads (NF4: with bitsandbytes): config, weights
   * in the architecture's own names, tokenizer and chat template. Weights are those that the network holds now. The folder is
   * there whole or not at all, and a model that is there already stays unless `force` is given.
   * Throws ArgumentError, also for adapters beside the weights, which would be missing; FileError, UnsupportedError.
   */
  async savePretrained(directory: string, options: SavePretrainedOptions = {}): Promise<ExportSummary> {
    this.#refuseAdapters("savePretrained");
    const { files, device, network } = this;
    const types = new Set([...network.quantizedWeights()].map((weight) => weight.type));
    const format = options.format ?? formatOf(this.config, network.dtype, types);
    return exportCheckpoint(files, directory, () => device, { ...options, format, loaded: network.loaded });
  }

  /**
   * Writes the model as one GGUF file, which llama.cpp reads too: `format` is what `llcuda quantize --to` takes, such as `q4_k_m`.
   * Weights are those that the network holds now. The file is there whole or not at all, and one that is there already stays unless
   * `force` is given. Throws ArgumentError, also for adapters beside the weights and a path that does not end in .gguf; FileError,
   * UnsupportedError for what the format cannot say.
   */
  async saveGguf(path: string, options: SaveGgufOptions): Promise<ExportSummary> {
    this.#refuseAdapters("saveGguf");
    if (!path.toLowerCase().endsWith(".gguf")) {
      throw new ArgumentError(`saveGguf: ${path} is no name of a GGUF file; give one that ends in .gguf`);
    }
    const format = ggufFormatOf(options.format);
    if (!format) {
      throw new ArgumentError(`saveGguf: format "${options.format}" is not known; use ${ggufFormats.join(", ")}`);
    }
    const { files, device, network } = this;
    return exportGguf(files, path, () => device, { ...options, format, loaded: network.loaded });
  }

  #refuseAdapters(what: string): void {
    if (this.adapters.length === 0) return;
    throw new ArgumentError(
      `${what}: the adapters beside the weights (${this.adapters.join(", ")}) are no part of them; unload them, or load the model with merge`,
    );
  }

  #answer(
    prompt: Prompt,
    options: GenerateOptions,
    index = 0,
  ): { request: TokenRequest; text: TextAssembly; end: AbortController } {
    checkGenerateOptions(options);
    const choice = Array.isArray(options.adapter) ? options.adapter[index] : options.adapter;
    const adapter = this.adapterFor(choice as AdapterChoice);
    const promptIds = this.encode(prompt);
    const end = new AbortController();
    const stops = typeof options.stop === "string" ? [options.stop] : (options.stop ?? []);
    return {
      end,
      text: new TextAssembly(promptIds.length, this.tokenizer.stream(), stops),
      request: {
        promptIds,
        adapter,
        sampling: samplingParameters(options, samplingDefaults(this.generationConfig)),
        maxNewTokens: options.maxNewTokens ?? this.generationConfig.maxNewTokens ?? this.network.contextLength,
        stopIds: new Set([...(options.ignoreEos ? [] : this.#stopIds()), ...(options.stopTokenIds ?? [])]),
        signal: end.signal,
      },
    };
  }

  #stopIds(): readonly number[] {
    const { tokenizer, generationConfig, config } = this;
    return stopTokenIds({ tokenizer, generationConfig, config, template: optionalTemplate(tokenizer) });
  }

  dispose(): void {
    this.engine.dispose();
    this.network.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function optionalTemplate(tokenizer: PretrainedTokenizer): ChatTemplate | undefined {
  try {
    return tokenizer.chatTemplate;
  } catch {
    return undefined; // a base model has none; whoever asks for chat gets the error
  }
}

/** The name that users of transformers look for. */
export const AutoModelForCausalLM = {
  fromPretrained: LanguageModel.fromPretrained,
} as const;
