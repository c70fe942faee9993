import { type DTypeName, dtype } from "../base/dtype.ts";
import { ArgumentError } from "../base/errors.ts";
import type { Device } from "../driver/device.ts";
import type { ChatMessage, ChatTemplate } from "../formats/chat-template/chat-template.ts";
import { stopTokenIds } from "../formats/chat-template/stop-tokens.ts";
import type { GenerationConfig } from "../formats/config/generation-config.ts";
import type { ModelConfig } from "../formats/config/model-config.ts";
import type { ModelFiles } from "../formats/model-files/model-files.ts";
import { PretrainedTokenizer } from "../models/auto-tokenizer.ts";
import { type CheckpointExportOptions, exportCheckpoint } from "../models/export/checkpoint.ts";
import { formatOf } from "../models/export/formats.ts";
import type { ExportSummary } from "../models/export/summary.ts";
import { findModel } from "../models/find-model.ts";
import { type LoadOptions, loadNetwork } from "../models/load-network.ts";
import type { CausalNetwork } from "../models/network.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { Engine } from "./engine.ts";
import { checkGenerateOptions, type GenerateOptions, samplingDefaults } from "./generate-options.ts";
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
  /** A tokenizer that is loaded already; by default the model's own, read when it is first needed. */
  readonly tokenizer?: PretrainedTokenizer | undefined;
}

export interface SavePretrainedOptions extends Omit<CheckpointExportOptions, "format" | "loaded"> {
  /** By default what the model is in: NF4 of the kind that its files have, else the dtype that it computes in. */
  readonly format?: CheckpointExportOptions["format"] | undefined;
}

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
   * Loads a model directory, a `.gguf` file, or `demo`. Files and options are checked before a device is opened.
   * Throws FileError, FormatError, UnsupportedError, ArgumentError, DTypeError, DeviceError, OutOfMemoryError.
   */
  static async fromPretrained(name: string, options: FromPretrainedOptions = {}): Promise<LanguageModel> {
    const files = findModel(name);
    const config = files.readConfig();
    const generationConfig = files.readGenerationConfig();
    const rotaryDtype = dtype(options.rotaryDtype ?? "float32").name;
    const network = await loadNetwork(files, config, options.device, options);
    return new LanguageModel({
      files,
      config,
      generationConfig,
      network,
      rotaryDtype,
      tokenizer: options.tokenizer,
    });
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
    const answers = prompts.map((prompt) => this.#answer(prompt, options));
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
  logits(ids: readonly number[]): Promise<Tensor> {
    return this.engine.logits(ids);
  }

  /**
   * Writes the model as a folder that `fromPretrained` here and in transformers loads (NF4: with bitsandbytes): config, weights
   * in the architecture's own names, tokenizer and chat template. Weights are those that the network holds now. The folder is
   * there whole or not at all, and a model that is there already stays unless `force` is given.
   * Throws ArgumentError, FileError, UnsupportedError.
   */
  savePretrained(directory: string, options: SavePretrainedOptions = {}): Promise<ExportSummary> {
    const { files, device, network } = this;
    const format = options.format ?? formatOf(this.config, network.dtype);
    return exportCheckpoint(files, directory, () => device, { ...options, format, loaded: network.loaded });
  }

  #answer(
    prompt: Prompt,
    options: GenerateOptions,
  ): { request: TokenRequest; text: TextAssembly; end: AbortController } {
    checkGenerateOptions(options);
    const promptIds = this.encode(prompt);
    const end = new AbortController();
    const stops = typeof options.stop === "string" ? [options.stop] : (options.stop ?? []);
    return {
      end,
      text: new TextAssembly(promptIds.length, this.tokenizer.stream(), stops),
      request: {
        promptIds,
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
