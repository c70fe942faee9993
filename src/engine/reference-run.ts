import { existsSync } from "node:fs";
import type { DTypeName } from "../base/dtype.ts";
import { FileError, FormatError } from "../base/errors.ts";
import { SafetensorsFile } from "../formats/safetensors/file.ts";

/**
 * Bounds on the relative L2 error of logits against a float32 reference: some ten times what rounding weights, activations
 * and cache to the dtype gives for a few layers, and far below what a wrong formula gives.
 */
export const verifyBounds: Readonly<Partial<Record<DTypeName, number>>> = {
  float32: 1e-4,
  float16: 5e-3,
  bfloat16: 3e-2,
};

/** What a reference run left behind. */
export interface ReferenceRun {
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

/** Throws FileError or FormatError. */
export function readReference(file: string): ReferenceRun {
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

/** got, want [L, V]. */
export function compareLogits(got: Float32Array, want: Float32Array, vocab: number) {
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
