import type { InstructionCase } from "./case.ts";
import { resultBytes } from "./kernel.ts";
import { operandsOf } from "./operands.ts";
import { registerBytes, sourceRegister } from "./sources.ts";

function hex(bytes: Uint8Array, row: number, width: number): string {
  let text = "";
  for (let i = width - 1; i >= 0; i--) text += bytes[row * width + i]!.toString(16).padStart(2, "0");
  return text;
}

/** The first of `rows` results that differ, with its operands, in words; undefined when all are equal. */
export function firstDifference(
  instruction: InstructionCase,
  found: readonly Uint8Array[],
  wanted: readonly Uint8Array[],
  rows: number,
): string | undefined {
  const widths = instruction.outputs.map(resultBytes);
  for (let k = 0; k < widths.length; k++) {
    const end = rows * widths[k]!;
    const [a, b] = [found[k]!, wanted[k]!];
    for (let i = 0; i < end; i++) {
      if (a[i] === b[i]) continue;
      const row = Math.floor(i / widths[k]!);
      const operands = operandsOf(instruction.inputs).map((bytes, n) =>
        hex(bytes, row, registerBytes(sourceRegister(instruction.inputs[n]!))),
      );
      const results = (of: readonly Uint8Array[]) => of.map((bytes, n) => hex(bytes, row, widths[n]!)).join(" ");
      return `row ${row}: of ${operands.join(" ")} found ${results(found)}, expected ${results(wanted)}`;
    }
  }
  return undefined;
}
