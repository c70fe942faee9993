import { ggmlType } from "../../base/ggml.ts";
import type { GgmlFormat } from "../ggml/ggml.ts";
import { type QuantFormat, weightAlignment } from "./formats.ts";
import { type GemmBlock, gemmBlock, gemmSplits } from "./gemm-layout.ts";
import { type GgmlBlock, ggmlBlock, ggmlBoxes } from "./ggml-layout.ts";
import { type BulkBlock, bulkBlock, type MmaBlock, mmaBlock } from "./layout.ts";
import type { QuantKernelName } from "./params.ts";
import { type WgmmaBlock, wgmmaBlock, wgmmaBoxes } from "./wgmma-layout.ts";

/** What the choice of a kernel depends on. */
export interface QuantShape {
  readonly m: number;
  /** Columns of D; with a gate, W has twice as many rows. */
  readonly n: number;
  readonly k: number;
  readonly gated: boolean;
  readonly dtype: "f32" | "f16" | "bf16";
  readonly format: QuantFormat;
  /** Of 4-bit codes: values that share an absmax; 0 for GGML types. */
  readonly blockSize: number;
  /** Absmax is itself quantized. */
  readonly nested: boolean;
  /**
   * Of 4-bit codes: values are rounded to the weight's own 16-bit type before they are multiplied in `dtype`, which is finer:
   * float32, or float16 where that type is bfloat16.
   */
  readonly rounded: boolean;
  /** Every row of x starts on 16 bytes. */
  readonly vectorX: boolean;
  /** Bytes, at most 16, of which W's address is a multiple. */
  readonly alignment: number;
}

export interface QuantMachine {
  /** Of the newest PTX target that may be used, times ten. */
  readonly capability: number;
  /** Target sm_90a may be used. */
  readonly hopper: boolean;
  readonly sharedBytes: number;
  readonly multiprocessors: number;
}

/** Rows from which on dequantizing W once costs less than decoding it for every 64 of them. */
const mostGemmRows = 128;

export type QuantChoice =
  | { readonly kernel: "gemv" }
  | ({ readonly kernel: "mma"; readonly rows: "8" | "16" } & MmaBlock)
  | ({ readonly kernel: "bulk"; readonly rows: "8" | "16" } & BulkBlock)
  | { readonly kernel: "mma" | "bulk"; readonly ggml: GgmlBlock }
  | ({ readonly kernel: "gemm" } & GemmBlock)
  | ({ readonly kernel: "wgmma" } & WgmmaBlock)
  | { readonly kernel: "wmma"; readonly splits: number }
  | { readonly kernel: "dequantize" };

/** Why a kernel cannot compute a shape, as the end of a sentence; undefined when it can. */
export function quantRefusal(kernel: QuantKernelName, s: QuantShape, on: QuantMachine): string | undefined {
  switch (kernel) {
    case "dequantize":
      return undefined;
    case "gemv":
      if (s.m > 8) return "it takes at most 8 rows";
      return s.k % 4 === 0 ? undefined : "K must be a multiple of 4";
    case "mma":
      return (
        fewRowsRefusal(s, on, 80) ?? (s.format === "code4" ? code4Refusal(s) : ggmlRefusal(s, s.format, on, false))
      );
    case "bulk":
      if (s.format !== "code4") return fewRowsRefusal(s, on, 90) ?? ggmlRefusal(s, s.format, on, true);
      return (
        fewRowsRefusal(s, on, 90) ??
        code4Refusal(s) ??
        (bulkBlockOf(s, on) ? undefined : "shared memory is too small for it")
      );
    case "gemm":
      return gemmRefusal(s, on);
    case "wgmma":
      return wgmmaRefusal(s, on);
    case "wmma":
      return wmmaRefusal(s, on);
  }
}

function fewRowsRefusal(s: QuantShape, on: QuantMachine, capability: number): string | undefined {
  if (s.m > 16) return "it takes at most 16 rows";
  if (s.dtype === "f32") return "it multiplies float16 and bfloat16";
  if (on.capability < capability) return `it needs target sm_${capability} or newer`;
  if (s.k % 64 !== 0) return "K must be a multiple of 64";
  return s.vectorX ? undefined : "rows of x must start on 16 bytes";
}

function ggmlRefusal(s: QuantShape, format: GgmlFormat, on: QuantMachine, bulk: boolean): string | undefined {
  if (bulk && !ggmlBoxes[format]) return `it is not built for ${format}`;
  const refusal = bulk ? boxRefusal(s, format) : undefined;
  if (refusal) return refusal;
  const alignment = weightAlignment(format);
  if (s.alignment % alignment !== 0) return `W must start on ${alignment} bytes`;
  return ggmlBlock({ ...gemmProblem(s), format }, on, bulk) ? undefined : "a block may not have the shared memory";
}

function code4Refusal(s: QuantShape): string | undefined {
  if (s.k % 256 !== 0) return "with 4-bit codes K must be a multiple of 256";
  if (s.blockSize < 64) return "blocks of 4-bit codes must have 64 values or more";
  return s.nested && s.blockSize !== 64 ? "nested absmax needs blocks of 64" : undefined;
}

function gemmRefusal(s: QuantShape, on: QuantMachine): string | undefined {
  if (s.dtype === "f32") return "it multiplies float16 and bfloat16";
  if (on.capability < 80) return "it needs target sm_80 or newer";
  if (s.rounded) return "it does not round values to another type";
  return manyRowsRefusal(s) ?? (gemmBlock(gemmProblem(s), on) ? undefined : "a block may not have the shared memory");
}

function wgmmaRefusal(s: QuantShape, on: QuantMachine): string | undefined {
  if (!on.hopper) return "it needs a GPU of capability 9.0 (target sm_90a)";
  if (!wgmmaBoxes[s.format]) return `it is not built for ${s.format}`;
  return gemmRefusal(s, on) ?? (s.format === "code4" ? undefined : boxRefusal(s, s.format));
}

/** What the copy engine asks of GGML blocks. */
function boxRefusal(s: QuantShape, format: GgmlFormat): string | undefined {
  const { blockElements, blockBytes } = ggmlType(format);
  if (((s.k / blockElements) * blockBytes) % 16 !== 0) return "rows of W must be a multiple of 16 bytes";
  return s.alignment % 16 === 0 ? undefined : "W must start on 16 bytes";
}

function wmmaRefusal(s: QuantShape, on: QuantMachine): string | undefined {
  if (s.dtype !== "f16") return "it multiplies float16";
  if (on.capability < 70) return "it needs target sm_70 or newer";
  return manyRowsRefusal(s);
}

function manyRowsRefusal(s: QuantShape): string | undefined {
  if (!s.vectorX) return "rows of x must start on 16 bytes";
  if (s.format !== "code4") return undefined;
  if (s.alignment < 16) return "4-bit codes must start on 16 bytes";
  if (s.k % 64 !== 0) return "with 4-bit codes K must be a multiple of 64";
  return s.blockSize < 64 ? "blocks of 4-bit codes must have 64 values or more" : undefined;
}

function gemmProblem(s: QuantShape) {
  return { ...s, rows: s.gated ? 2 * s.n : s.n };
}

/** The kernel for a shape. Pure; docs/kernels/nf4.md gives the reasons with numbers. */
export function chooseQuant(s: QuantShape, on: QuantMachine): QuantChoice {
  const can = (kernel: QuantKernelName): boolean => quantRefusal(kernel, s, on) === undefined;
  // Few rows: the weight is read once, in its small form.
  if (can("bulk")) return choiceOf("bulk", s, on);
  if (can("mma")) return choiceOf("mma", s, on);
  if (can("gemv")) return choiceOf("gemv", s, on);
  if (s.m <= mostGemmRows && can("wgmma")) return choiceOf("wgmma", s, on);
  if (s.m <= mostGemmRows && can("gemm")) return choiceOf("gemm", s, on);
  if (s.m <= mostGemmRows && on.capability < 80 && can("wmma")) return choiceOf("wmma", s, on);
  // Many: a weight dequantized once is multiplied by the 16-bit kernels, which the tensor cores bound.
  return choiceOf("dequantize", s, on);
}

/** The choice within one kernel that the caller insists on. */
export function choiceOf(kernel: QuantKernelName, s: QuantShape, on: QuantMachine): QuantChoice {
  switch (kernel) {
    case "gemv":
      return { kernel };
    case "mma":
    case "bulk":
      if (s.format !== "code4") {
        return { kernel, ggml: ggmlBlock({ ...gemmProblem(s), format: s.format }, on, kernel === "bulk")! };
      }
      if (kernel === "bulk") return { kernel, rows: rowsOf(s), ...bulkBlockOf(s, on)! };
      return { kernel, rows: rowsOf(s), ...mmaBlock({ ...s, rows: weightRows(s) }, on) };
    case "gemm":
      return { kernel, ...gemmBlock(gemmProblem(s), on)! };
    case "wgmma":
      return { kernel, ...wgmmaBlock(gemmProblem(s), on) };
    case "wmma":
      return { kernel, splits: gemmSplits(gemmProblem(s).rows, s.k, on.multiprocessors) };
    case "dequantize":
      return { kernel };
  }
}

const rowsOf = (s: QuantShape): "8" | "16" => (s.m <= 8 ? "8" : "16");
const weightRows = (s: QuantShape): number => (s.gated ? 2 * s.n : s.n);
const bulkBlockOf = (s: QuantShape, on: QuantMachine) => bulkBlock({ m: s.m, rows: weightRows(s), k: s.k }, on);

/**
 * A factor in [1, 2) that brings the levels of a 4-bit code close to what a 16-bit float can hold: the kernels multiply with
 * rounded levels, and the same level is rounded the same way in every block, so that its error does not average out.
 * The factor is undone on absmax. Of 512 candidates, the one with the least relative error over the levels.
 */
export function codeScale(levels: ArrayLike<number>, round: (x: number) => number): number {
  let best = 1;
  let bestError = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 512; i++) {
    const factor = 1 + i / 512;
    let error = 0;
    for (let l = 0; l < levels.length; l++) {
      const exact = levels[l]! * factor;
      if (exact !== 0) error += ((round(exact) - exact) / exact) ** 2;
    }
    if (error < bestError) [best, bestError] = [factor, error];
  }
  return best;
}
