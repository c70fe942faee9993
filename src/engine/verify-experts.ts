import type { DTypeName } from "../base/dtype.ts";
import type { Module } from "../nn/module.ts";
import { MixtureOfExperts } from "../nn/moe.ts";
import { Tensor } from "../tensor/tensor.ts";
import type { LanguageModel } from "./language-model.ts";
import { compareLogits, readReference, verifyBounds } from "./reference-run.ts";

/** What a run in 16 bits would have chosen where it was given float32's choice of experts. */
export interface ExpertChoices {
  /** Choices (of a token, in a layer), and those that would have been others. */
  readonly choices: number;
  readonly different: number;
  /** ‖router logits - float32's‖ / ‖float32's‖; bounded like the logits, so that only close choices can differ. */
  readonly relativeL2: number;
}

export function hasExperts(network: Module): boolean {
  return mixtures(network).length > 0;
}

/**
 * Compares a mixture of experts in 16 bits with a reference run as verifyModel does, but with the experts that a float32 run
 * of the same checkpoint chooses, for the prompt and for the greedy continuation, which is taken as given. Passes only if
 * the router's logits, too, are within the bound: each layer then computes what it should, and choices differ only between
 * experts that are nearly equally probable.
 */
export async function verifyWithChoices(
  load: (options: { dtype?: DTypeName }) => Promise<LanguageModel>,
  expectedFile?: string,
) {
  const wanted = await (async () => {
    using model = await load({ dtype: "float32" });
    return await routerLogits(model, readReference(expectedFile ?? model.files.expectedFile).greedyIds);
  })();
  using model = await load({});
  const expected = readReference(expectedFile ?? model.files.expectedFile);
  const vocab = model.network.vocabSize;
  const own: Float32Array[] = [];
  watch(model, (logits) => {
    const pass = wanted[own.length]!;
    own.push(logits.toArray() as Float32Array);
    logits.copy_(Tensor.from(pass, { shape: logits.shape, device: logits.device }));
  });
  using tensor = await model.logits(expected.greedyIds);
  const logits = tensor.toArray() as Float32Array;
  const errors = compareLogits(logits.subarray(0, expected.logits.length), expected.logits, vocab);
  const experts = compareChoices(own, wanted, mixtures(model.network));

  const prompt = expected.inputIds.length;
  const greedyTokens = expected.greedyIds.length - prompt;
  let greedyMatched = 0;
  while (greedyMatched < greedyTokens) {
    const row = logits.subarray((prompt - 1 + greedyMatched) * vocab).subarray(0, vocab);
    if (row.indexOf(Math.max(...row)) !== expected.greedyIds[prompt + greedyMatched]) break;
    greedyMatched++;
  }
  const { smallestMargin } = expected;
  const greedyIsUndecided = smallestMargin !== undefined && smallestMargin < 2 * errors.largestDifference;
  const bound = verifyBounds[model.network.dtype.name]!;
  const right = errors.relativeL2 <= bound && experts.relativeL2 <= bound;
  const passed = right && (greedyMatched === greedyTokens || greedyIsUndecided);
  return { ...errors, passed, greedyMatched, greedyTokens, greedyIsUndecided, rotaryDtype: model.rotaryDtype, experts };
}

function mixtures(network: Module): MixtureOfExperts[] {
  return [...network.modules()].filter((module) => module instanceof MixtureOfExperts);
}

function watch(model: LanguageModel, onLogits: (logits: Tensor) => void): void {
  for (const mixture of mixtures(model.network)) mixture.onRouterLogits = onLogits;
}

/** Of every layer of every pass, in order. */
async function routerLogits(model: LanguageModel, ids: readonly number[]): Promise<Float32Array[]> {
  const seen: Float32Array[] = [];
  watch(model, (logits) => seen.push(logits.toArray() as Float32Array));
  (await model.logits(ids)).dispose();
  return seen;
}

function compareChoices(
  got: readonly Float32Array[],
  want: readonly Float32Array[],
  layers: readonly MixtureOfExperts[],
): ExpertChoices {
  let choices = 0;
  let different = 0;
  let squaredError = 0;
  let squared = 0;
  for (const [i, wanted] of want.entries()) {
    const { experts, config } = layers[i % layers.length]!;
    const own = got[i]!;
    for (let at = 0; at < wanted.length; at += experts) {
      const chosen = (logits: Float32Array): number[] => best(logits.subarray(at, at + experts), config.chosen);
      const others = new Set(chosen(own));
      choices++;
      if (!chosen(wanted).every((expert) => others.has(expert))) different++;
    }
    for (const [j, value] of wanted.entries()) {
      squaredError += (own[j]! - value) ** 2;
      squared += value ** 2;
    }
  }
  return { choices, different, relativeL2: Math.sqrt(squaredError / squared) };
}

function best(logits: Float32Array, count: number): number[] {
  return [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b).slice(0, count);
}
