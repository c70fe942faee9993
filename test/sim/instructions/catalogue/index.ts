import type { InstructionCase } from "../case.ts";
import { approximateCases } from "./approximations.ts";
import { atomicCases } from "./atomics.ts";
import { comparisonCases } from "./comparisons.ts";
import { conversionCases } from "./conversions.ts";
import { floatCases } from "./floats.ts";
import { integerCases } from "./integers.ts";
import { matrixCases } from "./matrices.ts";
import { memoryCases } from "./memory.ts";
import { warpCases } from "./warps.ts";
import { wmmaCases } from "./wmma.ts";

/** Every instruction form that is tested, by family. */
export const catalogue: Readonly<Record<string, readonly InstructionCase[]>> = {
  integers: integerCases,
  comparisons: comparisonCases,
  floats: floatCases,
  conversions: conversionCases,
  approximations: approximateCases,
  memory: memoryCases,
  atomics: atomicCases,
  warps: warpCases,
  matrices: matrixCases,
  wmma: wmmaCases,
};

export const allCases: readonly InstructionCase[] = Object.values(catalogue).flat();
