import { type DTypeName, dtype } from "../base/dtype.ts";
import { ArgumentError } from "../base/errors.ts";
import type { Device } from "../driver/device.ts";
import { openDevice } from "../driver/open.ts";
import type { ChatMessage, ChatTemplate } from "../formats/chat-template/chat-template.ts";
import { stopTokenIds } from "../formats/chat-template/stop-tokens.ts";
import { type GenerationConfig, readGenerationConfig } from "../formats/config/generation-config.ts";
import { type ModelConfig, readModelConfig } from "../formats/config/model-config.ts";
import { PretrainedTokenizer } from "../models/auto-tokenizer.ts";
import { type LoadOptions, loadNetwork } from "../models/load-network.ts";
import { resolveModelPath } from "../models/model-path.ts";
import type { CausalNetwork } from "../models/network.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { Engine } from "./engine.ts";
import type { TokenRequest } from "./request.ts";
import { type SamplingOptions, samplingParameters } from "./sampling.ts";
import { type GenerationResult, TextAssembly } from "./text-assembly.ts";

/** Plain text (the tokenizer adds what begins a text), a dialogue (through the chat template), or token ids as they are. */
export type Prompt = string | readonly ChatMessage[] | readonly number[];

/** What is not set comes from generation_config.json; without one, decoding is greedy, as in transformers. */
export interface GenerateOptions extends SamplingOptions {
  /** The most tokens to add; by default as many as the context holds. */
  readonly maxNewTokens?: number | undefined;
  /** Texts that end the answer; they are not part of it. */
  readonly stop?: string | readonly string[] | undefined;
  /** Tokens that end the answer, besides those that the model's files name. */
  readonly stopTokenIds?: readonly number[] | undefined;
  /** Go on past the model's own end tokens. */
  readonly ignoreEos?: boolean | undefined;
  /** Ends the work; what waits for it rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

export interface GenerationChunk {
  readonly text: string;
  readonly tokenId: number;
}

export interface FromPretrainedOptions extends LoadOptions {
  /** A device or its name; by default LLCUDA_DEVICE, else the first GPU. */
  readonly device?: Device | string | undefined;
}

/** A causal language model, ready to generate: network, tokenizer, configs and engine. Dispose it to free its memory. */
export class LanguageModel implements Disposable {
  readonly directory: string;
  readonly config: ModelConfig;
  readonly generationConfig: GenerationConfig;
  readonly network: CausalNetwork;
  readonly engine: Engine;
  /** What the rotary frequencies are rounded to. */
  readonly rotaryDtype: DTypeName;
  #tokenizer: PretrainedTokenizer | undefined;

  constructor(directory: string, config: ModelConfig, network: CausalNetwork, rotaryDtype: DTypeName = "float32") {
    this.rotaryDtype = rotaryDtype;
    this.directory = directory;
    this.config = config;
    this.generationConfig = readGenerationConfig(directory);
    this.network = network;
    this.engine = new Engine(network);
  }

  /** Loads a model directory, or `demo`. Throws FileError, FormatError, UnsupportedError, DeviceError, OutOfMemoryError. */
  static async fromPretrained(name: string, options: FromPretrainedOptions = {}): Promise<LanguageModel> {
    const directory = resolveModelPath(name);
    const config = readModelConfig(directory);
    const device = typeof options.device === "object" ? options.device : openDevice(options.device);
    const network = await loadNetwork(directory, config, device, options);
    return new LanguageModel(directory, config, network, dtype(options.rotaryDtype ?? "float32").name);
  }

  get device(): Device {
    return this.network.device;
  }

  /** Throws FileError when the directory holds none. */
  get tokenizer(): PretrainedTokenizer {
    this.#tokenizer ??= new PretrainedTokenizer(this.directory);
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

  #answer(
    prompt: Prompt,
    options: GenerateOptions,
  ): { request: TokenRequest; text: TextAssembly; end: AbortController } {
    const promptIds = this.encode(prompt);
    const { maxNewTokens } = options;
    if (maxNewTokens !== undefined && !(Number.isInteger(maxNewTokens) && maxNewTokens >= 1)) {
      throw new ArgumentError(`maxNewTokens must be a whole number of at least 1, got ${maxNewTokens}`);
    }
    const end = new AbortController();
    const stops = typeof options.stop === "string" ? [options.stop] : (options.stop ?? []);
    return {
      end,
      text: new TextAssembly(promptIds.length, this.tokenizer.stream(), stops),
      request: {
        promptIds,
        sampling: samplingParameters(options, samplingDefaults(this.generationConfig)),
        maxNewTokens: maxNewTokens ?? this.generationConfig.maxNewTokens ?? this.network.contextLength,
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

/** transformers samples only where generation_config.json says so. */
function samplingDefaults(config: GenerationConfig): SamplingOptions {
  return {
    temperature: config.doSample ? (config.temperature ?? 1) : 0,
    ...(config.topK !== undefined && { topK: config.topK }),
    ...(config.topP !== undefined && { topP: config.topP }),
    ...(config.minP !== undefined && { minP: config.minP }),
  };
}

/** The name that users of transformers look for. */
export const AutoModelForCausalLM = {
  fromPretrained: LanguageModel.fromPretrained,
} as const;
