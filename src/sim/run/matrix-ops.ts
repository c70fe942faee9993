import { isAccumulator, readSum, writeSum } from "./accumulators.ts";
import { doubleProduct } from "./double-product.ts";
import { elementTypes } from "./element-types.ts";
import { matrixMoves } from "./matrix-moves.ts";
import type { CollectiveRun, OperandReader } from "./operands.ts";
import { quarterProduct } from "./quarter-product.ts";

/** What the product of two elements is: of bits, a logical operation, whose ones are counted. */
export function elementProduct(o: OperandReader, type: string): (x: number, y: number) => number {
  if (type !== "b1" || o.has("and")) return (x, y) => x * y;
  return o.has("xor") ? (x, y) => (x === y ? 0 : 1) : o.unsupported();
}

/**
 * mma.sync: D = A B + C over a warp's fragments (PTX ISA, "Matrix Fragments for mma"). With n elements of A in a
 * register, register r of lane l holds row l/4 + 8 (r mod M/8), columns n (l mod 4) + 4n (r div M/8) and on; B the same
 * by columns; sums in pairs of row l/4, then eight rows below. Products and sums are formed in double and rounded once,
 * which is inside what PTX allows.
 */
function multiply(o: OperandReader): CollectiveRun {
  const { modifiers } = o.instruction;
  const shape = modifiers.map((m) => /^m(\d+)n8k(\d+)$/.exec(m)).find((m) => m !== null);
  const types = modifiers.filter((m) => m !== "xor" && m !== "and" && m !== "popc").slice(-4);
  if (!shape || modifiers.some((m) => m === "sp" || m.startsWith("sp::") || m.startsWith("kind::"))) o.unsupported();
  const [M, K] = [Number(shape[1]), Number(shape[2])];
  const [dType, aName = "", bName = "", cType] = types;
  if (aName === "f64") return doubleProduct(o);
  if (M === 8 && K === 4) return quarterProduct(o);
  const [aType, bType] = [elementTypes[aName], elementTypes[bName]];
  if (!aType || !bType || aType.bits !== bType.bits || dType !== cType || !isAccumulator(dType)) return o.unsupported();
  if ((M !== 8 && M !== 16) || !o.has("row") || !o.has("col")) o.unsupported();
  const perWord = 32 / aType.bits;
  const bands = M / 8;
  const [dHomes, aHomes, bHomes, cHomes] = o.productHomes();
  if (aHomes.length * perWord * 32 !== M * K || bHomes.length * perWord * 32 !== 8 * K)
    o.unsupported("its fragments have other sizes");
  const a = new Float64Array(M * K);
  const b = new Float64Array(8 * K);
  const saturates = o.has("satfinite");
  const times = elementProduct(o, aName);

  return (memory, warp) => {
    const { i32 } = memory;
    for (let r = 0; r < aHomes.length; r++) {
      const home = (warp + aHomes[r]!) >>> 2;
      const rowBase = 8 * (r % bands);
      const columnBase = 4 * perWord * Math.floor(r / bands);
      for (let lane = 0; lane < 32; lane++) {
        const word = i32[home + lane]!;
        const at = (rowBase + (lane >>> 2)) * K + columnBase + perWord * (lane & 3);
        for (let i = 0; i < perWord; i++) a[at + i] = aType.read(word, i);
      }
    }
    for (let r = 0; r < bHomes.length; r++) {
      const home = (warp + bHomes[r]!) >>> 2;
      for (let lane = 0; lane < 32; lane++) {
        const word = i32[home + lane]!;
        const at = (lane >>> 2) * K + 4 * perWord * r + perWord * (lane & 3);
        for (let i = 0; i < perWord; i++) b[at + i] = bType.read(word, i);
      }
    }
    for (let band = 0; band < bands; band++) {
      for (let lane = 0; lane < 32; lane++) {
        const row = (8 * band + (lane >>> 2)) * K;
        for (let i = 0; i < 2; i++) {
          const column = (2 * (lane & 3) + i) * K;
          let sum = 0;
          for (let k = 0; k < K; k++) sum += times(a[row + k]!, b[column + k]!);
          const slot = 2 * band + i;
          sum += readSum(memory, dType, warp, cHomes, lane, slot);
          writeSum(memory, dType, warp, dHomes, lane, slot, sum, saturates);
        }
      }
    }
  };
}

export const matrixOps: Readonly<Record<string, (o: OperandReader) => CollectiveRun>> = {
  ...matrixMoves,
  mma: multiply,
};
