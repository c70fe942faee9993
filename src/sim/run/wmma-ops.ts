import { memoryMap } from "../memory-map.ts";
import { isAccumulator, readSum, writeSum } from "./accumulators.ts";
import { type ElementType, elementTypes } from "./element-types.ts";
import { MatrixFault } from "./matrix-moves.ts";
import { elementProduct } from "./matrix-ops.ts";
import type { CollectiveRun, OperandReader } from "./operands.ts";
import type { LinearMemory } from "./views.ts";

/**
 * Warp-level matrix instructions whose fragments are opaque: here lane l holds the elements l*n to l*n + n - 1 of its
 * matrix, A and the accumulator row by row, B column by column; where a fragment has room for more, they repeat.
 */

const accumulatorTypes: Readonly<Record<string, ElementType>> = {
  f16: elementTypes.f16!,
  f32: { bits: 32, read: (word) => word },
  s32: { bits: 32, read: (word) => word },
};

interface Shape {
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

function shapeOf(o: OperandReader): Shape {
  const found = o.instruction.modifiers.map((m) => /^m(\d+)n(\d+)k(\d+)$/.exec(m)).find((m) => m !== null);
  if (!found) return o.unsupported();
  return { M: Number(found[1]), N: Number(found[2]), K: Number(found[3]) };
}

/** Where element `slot` of a lane's fragment lies in its matrix. */
function elementIndex(lane: number, slot: number, elements: number): number {
  const perLane = elements / 32;
  return lane * perLane + (slot % perLane);
}

/** wmma.load and wmma.store, for shared and global memory. Elements of less than a byte are moved by the byte. */
function move(o: OperandReader): CollectiveRun {
  const { modifiers } = o.instruction;
  const isLoad = modifiers[0] === "load";
  const matrix = modifiers[1] ?? "";
  const { M, N, K } = shapeOf(o);
  const [rows, columns] = matrix === "a" ? [M, K] : matrix === "b" ? [K, N] : [M, N];
  const type = elementTypes[modifiers.at(-1)!] ?? accumulatorTypes[modifiers.at(-1)!];
  const address = o.at(isLoad ? 1 : 0);
  if (!type || address.kind !== "address") return o.unsupported();
  const { base, offset } = address;
  if (!base || !("register" in base)) return o.unsupported("an address that is not in a register");
  const place = o.place({ kind: "register", register: base.register });
  const homes = o.homesOf(o.at(isLoad ? 0 : 1));
  const byRow = modifiers.includes("row");
  const isShared = modifiers.includes("shared");
  const strideOperand = o.instruction.operands[2];
  const stride = strideOperand ? o.reader(strideOperand) : () => (byRow ? columns : rows);
  const bytes = Math.max(1, type.bits / 8);
  const perUnit = Math.max(1, 8 / type.bits);
  const perWord = 4 / bytes;
  const { observe } = o;

  const begin = (memory: LinearMemory, warp: number): number => {
    if ("value" in place) return o.unsupported();
    const at = place.wide ? memory.u64[(warp + place.home) >>> 3]! : BigInt(memory.u32[(warp + place.home) >>> 2]!);
    const from = at + BigInt(offset);
    if (!isShared) return o.resolve(from, bytes);
    return o.base + memoryMap.shared + Number(BigInt.asUintN(32, from));
  };
  return (memory, warp) => {
    const { u8 } = memory;
    const first = begin(memory, warp);
    const step = stride(memory, warp, 0);
    if (isShared) {
      const span = ((byRow ? rows : columns) - 1) * step + (byRow ? columns : rows);
      const end = first - o.base - memoryMap.shared + (span * type.bits) / 8;
      if (end > memory.i32[(o.base + memoryMap.sharedBytes) >>> 2]!)
        throw new MatrixFault(0, first - o.base - memoryMap.shared);
    }
    for (let lane = 0; lane < 32; lane++) {
      for (let slot = 0; slot < homes.length * perWord; slot++) {
        const index = elementIndex(lane, perUnit * slot, rows * columns);
        const [row, column] =
          matrix === "b" ? [index % rows, Math.floor(index / rows)] : [Math.floor(index / columns), index % columns];
        const there = first + ((byRow ? row * step + column : column * step + row) * type.bits) / 8;
        observe?.(there, bytes, lane, !isLoad);
        const here = warp + homes[Math.floor(slot / perWord)]! + 4 * lane + bytes * (slot % perWord);
        for (let i = 0; i < bytes; i++) {
          if (isLoad) u8[here + i] = u8[there + i]!;
          else u8[there + i] = u8[here + i]!;
        }
      }
    }
  };
}

/** Unpacks a fragment into its matrix. */
function gather(
  memory: LinearMemory,
  warp: number,
  homes: readonly number[],
  type: ElementType,
  into: Float64Array,
): void {
  const perWord = 32 / type.bits;
  for (let lane = 0; lane < 32; lane++) {
    for (let slot = 0; slot < homes.length * perWord; slot++) {
      const word = memory.i32[((warp + homes[Math.floor(slot / perWord)]!) >>> 2) + lane]!;
      into[elementIndex(lane, slot, into.length)] = type.read(word, slot % perWord);
    }
  }
}

/** D = A B + C, summed in double and rounded once. */
function multiply(o: OperandReader): CollectiveRun {
  const { modifiers } = o.instruction;
  const { M, N, K } = shapeOf(o);
  const shapeAt = modifiers.findIndex((m) => /^m\d+n\d+k\d+$/.test(m));
  const types = modifiers.slice(shapeAt + 1).filter((m) => m in elementTypes || isAccumulator(m));
  const [dName, cName] = [types[0], types.at(-1)];
  const [aName, bName] = types.length === 4 ? [types[1]!, types[2]!] : ["f16", "f16"];
  const [aType, bType] = [elementTypes[aName], elementTypes[bName]];
  if (!aType || !bType || !isAccumulator(dName) || !isAccumulator(cName)) return o.unsupported();
  const [dHomes, aHomes, bHomes, cHomes] = o.productHomes();
  const a = new Float64Array(M * K);
  const b = new Float64Array(N * K);
  const sums = new Float64Array(M * N);
  const perLane = (M * N) / 32;
  const saturates = o.has("satfinite");
  const times = elementProduct(o, aName);
  return (memory, warp) => {
    gather(memory, warp, aHomes, aType, a);
    gather(memory, warp, bHomes, bType, b);
    for (let lane = 0; lane < 32; lane++) {
      for (let i = 0; i < perLane; i++) {
        const index = lane * perLane + i;
        const row = Math.floor(index / N) * K;
        const column = (index % N) * K;
        let sum = 0;
        for (let k = 0; k < K; k++) sum += times(a[row + k]!, b[column + k]!);
        sums[index] = sum + readSum(memory, cName, warp, cHomes, lane, i);
      }
    }
    for (let lane = 0; lane < 32; lane++) {
      for (let i = 0; i < perLane; i++)
        writeSum(memory, dName, warp, dHomes, lane, i, sums[lane * perLane + i]!, saturates);
    }
  };
}

export const wmmaOps: Readonly<Record<string, (o: OperandReader) => CollectiveRun>> = {
  wmma: (o) => (o.instruction.modifiers[0] === "mma" ? multiply(o) : move(o)),
};
