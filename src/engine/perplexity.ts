import { ArgumentError } from "../base/errors.ts";
import type { AdapterChoice } from "./generate-options.ts";
import type { LanguageModel } from "./language-model.ts";
import { sampleText } from "./sample-text.ts";

export interface Perplexity {
  /** exp of `meanNll`: among how many equally probable tokens the model could as well have chosen. */
  readonly perplexity: number;
  /** Of the perplexity, from the spread over tokens, as if these were independent. */
  readonly standardError: number;
  /** Mean of -log P(token | tokens before it), in nats. */
  readonly meanNll: number;
  /** Tokens that were predicted and count. */
  readonly tokens: number;
}

export interface PerplexityOptions {
  /** Text, or token ids as they are; by default a sample of ours. */
  readonly text?: string | readonly number[] | undefined;
  /** Tokens that the model reads at a time; default 2048, or its context if that is less. */
  readonly window?: number | undefined;
  /** Tokens from one window to the next; default half a window. */
  readonly stride?: number | undefined;
  /** Of the text, at most this many tokens; default all. */
  readonly maxTokens?: number | undefined;
  readonly adapter?: AdapterChoice;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (progress: { readonly doneTokens: number; readonly totalTokens: number }) => void;
}

/** What was measured, and how the text was cut. */
export interface TextPerplexity extends Perplexity {
  readonly window: number;
  readonly stride: number;
}

/**
 * The perplexity of a text: exp of the mean of -log P(token | tokens before it). A text longer than a window is read in windows that
 * overlap: each token but the first is predicted once, and from the second window on with at least window - stride tokens before it.
 * The tokenizer puts before the text what it puts before any (once, not before every window).
 * Throws ArgumentError for a text of fewer than two tokens, or windows and strides that do not fit.
 * Source: the sliding window of https://huggingface.co/docs/transformers/perplexity.
 */
export async function measurePerplexity(
  model: LanguageModel,
  options: PerplexityOptions = {},
): Promise<TextPerplexity> {
  const { window, stride } = windowsOf(model.network.contextLength, options);
  const ids = tokensOf(model, options);
  const meter = new PerplexityMeter();
  for (const { begin, end, from } of planWindows(ids.length, window, stride)) {
    options.signal?.throwIfAborted();
    meter.add(await model.logLikelihoods(ids.slice(begin, end), { from: from - begin, adapter: options.adapter }));
    options.onProgress?.({ doneTokens: end, totalTokens: ids.length });
  }
  return { ...meter.result(), window, stride };
}

function tokensOf(model: LanguageModel, { text = sampleText, maxTokens }: PerplexityOptions): readonly number[] {
  if (maxTokens !== undefined && !(Number.isInteger(maxTokens) && maxTokens >= 2)) {
    throw new ArgumentError(`maxTokens must be a whole number of at least 2, got ${maxTokens}`);
  }
  const ids = (typeof text === "string" ? model.tokenizer.encode(text) : text).slice(0, maxTokens);
  if (ids.length < 2) {
    throw new ArgumentError(`perplexity needs a text of at least 2 tokens, got ${ids.length}: the first is given`);
  }
  return ids;
}

/** Throws ArgumentError. */
function windowsOf(contextLength: number, options: PerplexityOptions): { window: number; stride: number } {
  const window = options.window ?? Math.min(2048, contextLength);
  if (!(Number.isInteger(window) && window >= 2 && window <= contextLength)) {
    throw new ArgumentError(
      `window must be a whole number from 2 to ${contextLength}, which is the model's context, got ${window}`,
    );
  }
  const stride = options.stride ?? Math.floor(window / 2);
  if (!(Number.isInteger(stride) && stride >= 1 && stride < window)) {
    throw new ArgumentError(
      `stride must be a whole number from 1 to ${window - 1} for windows of ${window}, got ${stride}`,
    );
  }
  return { window, stride };
}

/** Tokens [begin, end) are read; those from `from` on are new, and count. */
export interface Window {
  readonly begin: number;
  readonly end: number;
  readonly from: number;
}

/** Windows over `count` tokens in which each token but the first is new once. `stride` is less than `window`. */
export function planWindows(count: number, window: number, stride: number): Window[] {
  const windows: Window[] = [];
  for (let begin = 0, from = 1; from < count; begin += stride) {
    const end = Math.min(begin + window, count);
    windows.push({ begin, end, from });
    from = end;
  }
  return windows;
}

/** Collects log-likelihoods; sums are float64. */
export class PerplexityMeter {
  #tokens = 0;
  #sum = 0;
  #squares = 0;

  /** Natural logarithms of the probabilities that tokens had. */
  add(logLikelihoods: Iterable<number>): void {
    for (const value of logLikelihoods) {
      this.#tokens++;
      this.#sum -= value;
      this.#squares += value * value;
    }
  }

  result(): Perplexity {
    const meanNll = this.#sum / this.#tokens;
    const perplexity = Math.exp(meanNll);
    const variance = Math.max(0, this.#squares / this.#tokens - meanNll ** 2);
    return {
      perplexity,
      standardError: perplexity * Math.sqrt(variance / this.#tokens),
      meanNll,
      tokens: this.#tokens,
    };
  }
}
