import { ArgumentError } from "../base/errors.ts";
import type { GenerationConfig } from "../formats/config/generation-config.ts";
import { type SamplingOptions, samplingParameters } from "./sampling.ts";

/** A loaded adapter by name, null for none, undefined for the default. */
export type AdapterChoice = string | null | undefined;

/** What is not set comes from generation_config.json; without one, decoding is greedy, as in transformers. */
export interface GenerateOptions extends SamplingOptions {
  /** The most tokens to add; by default as many as the context holds. */
  readonly maxNewTokens?: number | undefined;
  /**
   * The loaded adapter to answer with, by name; null for the base alone. By default the model's own choice
   * (`model.defaultAdapter`). For several prompts also a list, one for each.
   */
  readonly adapter?: AdapterChoice | readonly AdapterChoice[] | undefined;
  /** Texts that end the answer; they are not part of it. */
  readonly stop?: string | readonly string[] | undefined;
  /** Tokens that end the answer, besides those that the model's files name. */
  readonly stopTokenIds?: readonly number[] | undefined;
  /** Go on past the model's own end tokens. */
  readonly ignoreEos?: boolean | undefined;
  /** Ends the work; what waits for it rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** Throws ArgumentError that names the option with an unusable value. Needs no model, so it can run before one is loaded. */
export function checkGenerateOptions(options: GenerateOptions): void {
  const { maxNewTokens, stop } = options;
  if (maxNewTokens !== undefined && !(Number.isInteger(maxNewTokens) && maxNewTokens >= 1)) {
    throw new ArgumentError(`maxNewTokens must be a whole number of at least 1, got ${maxNewTokens}`);
  }
  if (stop === "" || (Array.isArray(stop) && stop.includes(""))) {
    throw new ArgumentError("stop must not be an empty text, which would end every answer before it begins");
  }
  samplingParameters(options);
}

/** transformers samples only where generation_config.json says so; a penalty it applies to greedy decoding too. */
export function samplingDefaults(config: GenerationConfig): SamplingOptions {
  return {
    temperature: config.doSample ? (config.temperature ?? 1) : 0,
    topK: config.topK,
    topP: config.topP,
    minP: config.minP,
    repetitionPenalty: config.repetitionPenalty,
  };
}
