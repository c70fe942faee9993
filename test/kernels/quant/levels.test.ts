import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { fourBitLevels } from "../../../src/base/four-bit.ts";
import { dynamicCode } from "../../../src/kernels/nf4/levels.ts";
import { bits } from "../../support/numerics.ts";
import { Vectors } from "../../support/vectors.ts";

const source = readFileSync(new URL("../../../src/kernels/nf4/code4.cuh", import.meta.url), "utf8");

/** The numbers of an array in code4.cuh. */
function arrayIn(name: string): number[] {
  const body = new RegExp(`${name}\\[\\d+\\] = \\{([^}]*)\\}`).exec(source)?.[1];
  if (!body) throw new Error(`code4.cuh has no array ${name}`);
  return [...body.matchAll(/-?\d+\.\d+/g)].map(([number]) => Number(number));
}

describe("levels of 4-bit codes", () => {
  const vectors = new Vectors("nf4-vectors.safetensors");

  test("are bitsandbytes' own", () => {
    expect(bits(fourBitLevels.nf4)).toEqual(bits(vectors.floats("a.code")));
  });

  test.each([
    ["nf4", "NF4_MIDPOINTS"],
    ["fp4", "FP4_MIDPOINTS"],
  ] as const)("the kernel's bounds for %s lie midway between them", (type, array) => {
    const sorted = [...new Set([...fourBitLevels[type]].map((x) => (type === "fp4" ? Math.abs(x) : x)))].sort(
      (a, b) => a - b,
    );
    const bounds = arrayIn(array);
    expect(bounds.length).toBe(sorted.length - 1);
    // FP4's are written with six digits.
    const worst = Math.max(...bounds.map((bound, i) => Math.abs(bound - (sorted[i]! + sorted[i + 1]!) / 2)));
    expect(worst).toBeLessThan(type === "fp4" ? 4e-6 : 1e-7);
  });

  test("the dynamic code of double quantization is bitsandbytes' own", () => {
    expect(bits(dynamicCode())).toEqual(bits(vectors.floats("b.nested_code")));
  });
});
