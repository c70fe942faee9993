import { ArgumentError, FileError } from "../base/errors.ts";
import { type Divergence, DivergenceMeter } from "./divergence.ts";
import type { LanguageModel } from "./language-model.ts";
import { sampleText } from "./sample-text.ts";

/**
 * The mean KL divergence, in nats, up to which a model passes as a copy of another, unless a bound is given: far above what rounding
 * to 16 or 8 bits does, far below what a wrong formula gives. Small models in 4 bits may need more (docs/export.md).
 */
export const defaultMaxKl = 0.1;

export interface CompareOptions {
  /** What both read; by default a sample of ours. */
  readonly text?: string | undefined;
  /** Of the text, at most this many tokens; default 1024. Their logits, V float32 each, wait in host memory for the second model. */
  readonly maxTokens?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Tokens of one pass: a text of several is cut, and each piece is read without the one before. */
const pieceTokens = 256;

/**
 * Runs two models on the same tokens, one after the other so that either may fill the GPU, and says how far the second one's
 * predictions are from the first one's. Models without a tokenizer (both) read random tokens instead, the same every time.
 * Throws ArgumentError when they have different vocabularies or tokenize the text differently.
 */
export async function compareModels(
  loadA: () => Promise<LanguageModel>,
  loadB: () => Promise<LanguageModel>,
  options: CompareOptions = {},
): Promise<Divergence> {
  const first = await readModel(loadA, options);
  const meter = new DivergenceMeter();
  await readModel(loadB, options, first, (b, i, vocab) => meter.add(first.logits[i]!, b, vocab));
  return meter.result();
}

interface Reading {
  readonly path: string;
  readonly ids: readonly number[];
  /** [T, V] of each piece; empty when they were given away. */
  readonly logits: readonly Float32Array[];
  readonly vocab: number;
}

async function readModel(
  load: () => Promise<LanguageModel>,
  options: CompareOptions,
  other?: Reading,
  give?: (logits: Float32Array, piece: number, vocab: number) => void,
): Promise<Reading> {
  using model = await load();
  const { path } = model.files;
  const vocab = model.network.vocabSize;
  const ids = tokensOf(model, options);
  if (other) checkSame(other, { path, ids, vocab });
  const length = Math.min(pieceTokens, model.network.contextLength);
  const logits: Float32Array[] = [];
  for (let begin = 0, i = 0; begin < ids.length; begin += length, i++) {
    options.signal?.throwIfAborted();
    using tensor = await model.logits(ids.slice(begin, begin + length));
    const values = tensor.toArray() as Float32Array;
    if (give) give(values, i, vocab);
    else logits.push(values);
  }
  return { path, ids, logits, vocab };
}

function checkSame(a: Reading, b: { path: string; ids: readonly number[]; vocab: number }): void {
  if (a.vocab !== b.vocab) {
    throw new ArgumentError(
      `${b.path}: its vocabulary has ${b.vocab} tokens, that of ${a.path} ${a.vocab}; only models of one vocabulary can be compared`,
    );
  }
  if (a.ids.length !== b.ids.length || a.ids.some((id, i) => id !== b.ids[i])) {
    throw new ArgumentError(
      `${b.path}: its tokenizer cuts the text otherwise than that of ${a.path}; only models of one tokenizer can be compared`,
    );
  }
}

function tokensOf(model: LanguageModel, { text, maxTokens = 1024 }: CompareOptions): readonly number[] {
  if (!Number.isInteger(maxTokens) || maxTokens < 1) {
    throw new ArgumentError(`maxTokens must be a positive integer, got ${maxTokens}`);
  }
  const ids = encode(model, text) ?? randomIds(model.network.vocabSize);
  // An empty text still has the token that every text begins with.
  if (text === "" || ids.length === 0) throw new ArgumentError("the text to compare models on is empty");
  return ids.slice(0, maxTokens);
}

/** Undefined for a model without a tokenizer, unless there is a text that needs one. */
function encode(model: LanguageModel, text: string | undefined): readonly number[] | undefined {
  try {
    return model.tokenizer.encode(text ?? sampleText);
  } catch (error) {
    if (error instanceof FileError && text === undefined) return undefined;
    throw error;
  }
}

/** The multiplier of a linear congruential generator modulo 2^32 (Numerical Recipes). */
function randomIds(vocab: number): number[] {
  let state = 1;
  return Array.from({ length: 256 }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * vocab);
  });
}
