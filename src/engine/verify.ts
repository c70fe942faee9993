import { existsSync } from "node:fs";
import { type DTypeName, float32 } from "../base/dtype.ts";
import { FileError, FormatError } from "../base/errors.ts";
import { SafetensorsFile } from "../formats/safetensors/file.ts";
import type { LanguageModel } from "./language-model.ts";

/**
 * Bounds on the relative L2 error of logits against a float32 reference: some ten times what rounding weights, activations
 * and cache to the dtype gives for a few layers, and far below what a wrong formula gives.
 */
export const verifyBounds: Readonly<Partial<Record<DTypeName, number>>> = {
  float32: 1e-4,
  float16: 5e-3,
  bfloat16: 3e-2,
};

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
}

/**
 * Loads a checkpoint and compares it with a reference run. A reference does not record how its rotary frequencies were
 * held: from_pretrained keeps them in float32, but a PyTorch model that was moved as a whole (`model.to(torch.bfloat16)`)
 * has them rounded to that dtype, even when it is moved back, and so is the scale of Gemma's embeddings. So when float32 frequencies miss the bound, the comparison is made
 * once more with frequencies rounded to the dtype that the checkpoint is stored in, and the result says which one it is.
 */
export async function verifyCheckpoint(
  load: (options: { rotaryDtype?: DTypeName }) => Promise<LanguageModel>,
  expectedFile?: string,
): Promise<{ verification: Verification; device: string; dtype: DTypeName }> {
  const attempt = async (rotaryDtype?: DTypeName) => {
    using model = await load(rotaryDtype ? { rotaryDtype } : {});
    const verification = await verifyModel(model, expectedFile);
    return { verification, device: model.device.name, dtype: model.network.dtype.name, stored: model.config.dtype };
  };
  const { stored, ...exact } = await attempt();
  if (exact.verification.passed || !stored || stored === float32) return exact;
  const { stored: _, ...rounded } = await attempt(stored.name);
  if (!rounded.verification.passed) return exact;
  const relativeL2WithExactRotary = exact.verification.relativeL2;
  return { ...rounded, verification: { ...rounded.verification, relativeL2WithExactRotary } };
}

/**
 * Compares a model with a reference run: `expectedFile`, by default expected.safetensors in its directory
 * (NAME.expected.safetensors beside NAME.gguf), holds input_ids [L], logits [L, V] and greedy_ids [L + n].
 */
export async function verifyModel(
  model: LanguageModel,
  expectedFile: string = model.files.expectedFile,
): Promise<Verification> {
  const expected = readExpected(expectedFile);
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

interface Expected {
  readonly file: string;
  readonly inputIds: readonly number[];
  readonly logits: Float32Array;
  readonly greedyIds: readonly number[];
  readonly smallestMargin: number | undefined;
}

/** Throws FileError or FormatError when `file` is missing or no sound safetensors file; it opens no device. */
export function checkReference(file: string): void {
  openReference(file).close();
}

function openReference(file: string): SafetensorsFile {
  if (existsSync(file)) return SafetensorsFile.open(file);
  throw new FileError(
    file,
    `${file}: there is no such file; verify needs one with input_ids, logits and greedy_ids of a reference run`,
  );
}

function readExpected(file: string): Expected {
  using expected = openReference(file);
  const read = (name: string, dtype: string) => {
    const info = expected.tensors.get(name);
    if (info?.dtype !== dtype) {
      throw new FormatError(
        file,
        `${file}: verify needs a tensor "${name}" of type ${dtype}, found ${info?.dtype ?? "none"}`,
      );
    }
    // A copy: tensors need not lie at multiples of four bytes.
    return expected.read(name).slice().buffer;
  };
  const margin = Number(expected.metadata.min_top1_margin);
  return {
    file,
    inputIds: Array.from(new Int32Array(read("input_ids", "I32"))),
    logits: new Float32Array(read("logits", "F32")),
    greedyIds: Array.from(new Int32Array(read("greedy_ids", "I32"))),
    smallestMargin: Number.isFinite(margin) ? margin : undefined,
  };
}

function compareLogits(got: Float32Array, want: Float32Array, vocab: number) {
  let squaredError = 0;
  let squared = 0;
  let largestDifference = 0;
  let agreeing = 0;
  const rows = want.length / vocab;
  for (let row = 0; row < rows; row++) {
    let bestGot = row * vocab;
    let bestWant = row * vocab;
    for (let i = row * vocab; i < (row + 1) * vocab; i++) {
      const difference = got[i]! - want[i]!;
      squaredError += difference * difference;
      squared += want[i]! * want[i]!;
      // Math.max gives NaN for NaN, so that one wrong number cannot hide.
      largestDifference = Math.max(largestDifference, Math.abs(difference));
      if (got[i]! > got[bestGot]!) bestGot = i;
      if (want[i]! > want[bestWant]!) bestWant = i;
    }
    if (bestGot === bestWant) agreeing++;
  }
  return { relativeL2: Math.sqrt(squaredError / squared), largestDifference, top1Agreement: agreeing / rows };
}

async function continueGreedily(model: LanguageModel, promptIds: readonly number[], count: number): Promise<number[]> {
  const sampling = { temperature: 0, topK: 0, topP: 1, minP: 0, seed: 0n };
  const ids: number[] = [];
  const request = { promptIds, sampling, maxNewTokens: count, stopIds: new Set<number>() };
  for await (const event of model.engine.run([request])) ids.push(event.tokenId);
  return ids;
}
