import { type DTypeName, float32 } from "../base/dtype.ts";
import { FormatError, OutOfMemoryError } from "../base/errors.ts";
import type { LanguageModel } from "./language-model.ts";
import { compareLogits, readReference, verifyBounds } from "./reference-run.ts";
import { type ExpertChoices, hasExperts, verifyWithChoices } from "./verify-experts.ts";

export { checkReference, verifyBounds } from "./reference-run.ts";

export interface Verification {
  readonly passed: boolean;
  /** What the rotary frequencies were rounded to for this comparison. */
  readonly rotaryDtype: DTypeName;
  /** The error with float32 frequencies, when the comparison passed only with rounded ones. */
  readonly relativeL2WithExactRotary: number | undefined;
  /** ‖logits - expected‖ / ‖expected‖ over all positions, and what it may be. */
  readonly relativeL2: number;
  readonly bound: number;
  readonly largestDifference: number;
  /** Share of positions whose most probable token is the expected one. */
  readonly top1Agreement: number;
  /** Tokens of the greedy continuation before the first that differs, and all of them. */
  readonly greedyMatched: number;
  readonly greedyTokens: number;
  /** Smallest gap between the best two logits along the expected continuation, when the file says. */
  readonly smallestMargin: number | undefined;
  /** Whether that gap is too small for this run's error to decide every token, so that a greedy mismatch is no failure. */
  readonly greedyIsUndecided: boolean;
  /** Of a mixture of experts that was compared with float32's choice of experts: what it would have chosen itself. */
  readonly experts?: ExpertChoices;
}

/** What verifyCheckpoint asks a checkpoint to be loaded with; the rest is the caller's. */
export interface VerifyLoadOptions {
  readonly rotaryDtype?: DTypeName;
  readonly dtype?: DTypeName;
}

/**
 * Loads a checkpoint and compares it with a reference run, in up to three ways.
 *
 * A reference does not record how its rotary frequencies were held: from_pretrained keeps them in float32, but a PyTorch
 * model that was moved as a whole (`model.to(torch.bfloat16)`) has them rounded to that dtype, even when it is moved back,
 * and so is the scale of Gemma's embeddings. So when float32 frequencies miss the bound, the comparison is made once more
 * with frequencies rounded to the dtype that the checkpoint is stored in, and the result says which one it is.
 *
 * A mixture of experts in 16 bits may send a token whose experts are nearly equally probable to another one than the
 * reference, which is no error and yet another result. So when both miss the bound, it is compared once more with the
 * experts that a float32 run chooses (verify-experts.ts).
 */
export async function verifyCheckpoint(
  load: (options: VerifyLoadOptions) => Promise<LanguageModel>,
  expectedFile?: string,
): Promise<{ verification: Verification; device: string; dtype: DTypeName }> {
  const attempt = async (options: VerifyLoadOptions) => {
    using model = await load(options);
    const verification = await verifyModel(model, expectedFile);
    const { network, config } = model;
    const place = { device: model.device.name, dtype: network.dtype.name };
    return { verification, ...place, stored: config.dtype, mixed: hasExperts(network) && network.dtype !== float32 };
  };
  const { stored, mixed, ...exact } = await attempt({});
  if (exact.verification.passed) return exact;
  const rotaryDtypes: VerifyLoadOptions[] = [{}];
  if (stored && stored !== float32) {
    const { stored: _, mixed: __, ...rounded } = await attempt({ rotaryDtype: stored.name });
    const relativeL2WithExactRotary = exact.verification.relativeL2;
    if (rounded.verification.passed) {
      return { ...rounded, verification: { ...rounded.verification, relativeL2WithExactRotary } };
    }
    rotaryDtypes.push({ rotaryDtype: stored.name });
  }
  if (!mixed) return exact;
  try {
    for (const rotary of rotaryDtypes) {
      if (!(await attempt({ ...rotary, dtype: "float32" })).verification.passed) continue;
      const verification = await verifyWithChoices((options) => load({ ...rotary, ...options }), expectedFile);
      return { ...exact, verification: { ...exact.verification, ...verification } };
    }
  } catch (error) {
    // Too large for this device in float32: the comparison that was made stands.
    if (!(error instanceof OutOfMemoryError)) throw error;
  }
  return exact;
}

/**
 * Compares a model with a reference run: `expectedFile`, by default expected.safetensors in its directory
 * (NAME.expected.safetensors beside NAME.gguf), holds input_ids [L], logits [L, V] and greedy_ids [L + n].
 */
export async function verifyModel(
  model: LanguageModel,
  expectedFile: string = model.files.expectedFile,
): Promise<Verification> {
  const expected = readReference(expectedFile);
  const tensor = await model.logits(expected.inputIds);
  const logits = tensor.toArray() as Float32Array;
  tensor.dispose();
  if (logits.length !== expected.logits.length) {
    throw new FormatError(
      expected.file,
      `${expected.file}: logits holds ${expected.logits.length} numbers, but the model gives ${logits.length}; the file is of another model`,
    );
  }
  const errors = compareLogits(logits, expected.logits, model.network.vocabSize);
  const greedy = await continueGreedily(model, expected.inputIds, expected.greedyIds.length - expected.inputIds.length);
  const wanted = expected.greedyIds.slice(expected.inputIds.length);
  let greedyMatched = wanted.findIndex((id, i) => greedy[i] !== id);
  if (greedyMatched < 0) greedyMatched = wanted.length;
  const bound = verifyBounds[model.network.dtype.name]!;
  // Two logits can each be off by the largest difference, in opposite directions.
  const greedyIsUndecided =
    expected.smallestMargin !== undefined && expected.smallestMargin < 2 * errors.largestDifference;
  const greedyPassed = greedyMatched === wanted.length || greedyIsUndecided;
  return {
    ...errors,
    rotaryDtype: model.rotaryDtype,
    relativeL2WithExactRotary: undefined,
    passed: errors.relativeL2 <= bound && greedyPassed,
    bound,
    greedyMatched,
    greedyTokens: wanted.length,
    smallestMargin: expected.smallestMargin,
    greedyIsUndecided,
  };
}

async function continueGreedily(model: LanguageModel, promptIds: readonly number[], count: number): Promise<number[]> {
  const sampling = { temperature: 0, topK: 0, topP: 1, minP: 0, seed: 0n };
  const ids: number[] = [];
  const stopIds = new Set<number>();
  const request = { promptIds, sampling, adapter: model.adapterFor(), maxNewTokens: count, stopIds };
  for await (const event of model.engine.run([request])) ids.push(event.tokenId);
  return ids;
}
