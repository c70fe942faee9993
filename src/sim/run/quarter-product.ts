import { type AccumulatorName, isAccumulator, readSum, writeSum } from "./accumulators.ts";
import { fromHalf } from "./half.ts";
import type { CollectiveRun, OperandReader } from "./operands.ts";

/**
 * mma.m8n8k4 of halves: four products, each of eight lanes, number p of lanes 4p to 4p + 3 and the four that are 16 higher
 * (PTX ISA, "Matrix Fragments for mma.m8n8k4 with .f16"). A lane holds four elements of a row or column of A and of B, by
 * how the matrix is stored, and eight sums.
 */
export function quarterProduct(o: OperandReader): CollectiveRun {
  const { modifiers } = o.instruction;
  const [aByRow, bByRow] = modifiers.filter((m) => m === "row" || m === "col").map((m) => m === "row");
  const [d, aType, bType, c] = modifiers.slice(-4);
  if (aType !== "f16" || bType !== "f16" || !isAccumulator(d) || !isAccumulator(c)) return o.unsupported();
  if (d === "s32" || c === "s32" || (c === "f32" && d !== "f32")) return o.unsupported();
  const [dHomes, aHomes, bHomes, cHomes] = o.productHomes();
  const wanted = { f32: 8, f16: 4 };
  if (aHomes.length !== 2 || bHomes.length !== 2 || dHomes.length !== wanted[d] || cHomes.length !== wanted[c])
    return o.unsupported("its fragments have other sizes");
  const a = new Float64Array(32);
  const b = new Float64Array(32);
  const sums = new Float64Array(64);

  return (memory, warp) => {
    const element = (homes: readonly number[], lane: number, i: number): number =>
      fromHalf(memory.u16[((warp + homes[i >>> 1]!) >>> 1) + 2 * lane + (i & 1)]!);
    for (let product = 0; product < 4; product++) {
      // Outer index (row of A, column of B) and inner one: of the lane in its group of four, and of its four elements.
      for (let outer = 0; outer < 8; outer++) {
        const group = 4 * product + (outer < 4 ? 0 : 16);
        for (let k = 0; k < 4; k++) {
          const [whole, part] = [group + (outer & 3), k] as const;
          const [across, along] = [group + k, outer & 3] as const;
          a[4 * outer + k] = aByRow ? element(aHomes, whole, part) : element(aHomes, across, along);
          b[4 * outer + k] = bByRow ? element(bHomes, across, along) : element(bHomes, whole, part);
        }
      }
      // All sums before any is written: D may be in the registers of C.
      for (let row = 0; row < 8; row++) {
        for (let column = 0; column < 8; column++) {
          const [lane, i] = placeOf(product, row, column, c);
          const start = readSum(memory, c, warp, cHomes, lane, i);
          // With sums in halves hardware begins with C, which shows where all is -0.
          let sum = d === "f16" ? start : 0;
          for (let k = 0; k < 4; k++) sum += a[4 * row + k]! * b[4 * column + k]!;
          sums[8 * row + column] = d === "f16" ? sum : sum + start;
        }
      }
      for (let row = 0; row < 8; row++) {
        for (let column = 0; column < 8; column++) {
          const [lane, i] = placeOf(product, row, column, d);
          writeSum(memory, d, warp, dHomes, lane, i, sums[8 * row + column]!, false);
        }
      }
    }
  };
}

/** The lane and the number of an element among its eight. Halves lie by rows; floats in blocks of two by two. */
function placeOf(product: number, row: number, column: number, type: AccumulatorName): readonly [number, number] {
  const group = 4 * product + (row < 4 ? 0 : 16);
  if (type === "f16") return [group + (row & 3), column];
  return [group + (row & 1) + (column & 2), (column & 4) + (row & 2) + (column & 1)];
}
