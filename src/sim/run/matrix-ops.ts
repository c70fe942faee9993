import { memoryMap } from "../memory-map.ts";
import { elementTypes } from "./element-types.ts";
import { fromHalf, toHalf } from "./half.ts";
import type { CollectiveRun, OperandReader } from "./operands.ts";

/** ldmatrix and stmatrix: 8x8 matrices of 16-bit elements between shared memory and the fragments that mma takes. */
function moveMatrices(isLoad: boolean): (o: OperandReader) => CollectiveRun {
  return (o) => {
    const address = o.at(isLoad ? 1 : 0);
    if (address.kind !== "address") return o.unsupported();
    if (!o.has("m8n8") || !o.has("b16")) o.unsupported();
    const { base, offset } = address;
    if (!base || !("register" in base)) return o.unsupported("an address that is not in a register");
    const read = o.reader({ kind: "register", register: base.register });
    const homes = o.homesOf(o.at(isLoad ? 0 : 1));
    const transposed = o.has("trans");
    const rows = new Int32Array(8 * homes.length);
    const { observe } = o;
    return (memory, warp) => {
      const limit = memory.i32[(o.base + memoryMap.sharedBytes) >>> 2]!;
      for (let row = 0; row < rows.length; row++) {
        const at = read(memory, warp, row) + offset;
        if ((at & 15) !== 0 || at < 0 || at + 16 > limit) throw new MatrixFault(row, at);
        rows[row] = o.base + memoryMap.shared + at;
        observe?.(rows[row]!, 16, row, !isLoad);
      }
      const { i32, u16 } = memory;
      for (let m = 0; m < homes.length; m++) {
        const register = (warp + homes[m]!) >>> 2;
        for (let lane = 0; lane < 32; lane++) {
          const [group, pair] = [lane >>> 2, lane & 3];
          const half = 2 * (register + lane);
          if (transposed) {
            const first = (rows[8 * m + 2 * pair]! >>> 1) + group;
            const second = (rows[8 * m + 2 * pair + 1]! >>> 1) + group;
            if (isLoad) {
              u16[half] = u16[first]!;
              u16[half + 1] = u16[second]!;
            } else {
              u16[first] = u16[half]!;
              u16[second] = u16[half + 1]!;
            }
          } else {
            const word = (rows[8 * m + group]! >>> 2) + pair;
            if (isLoad) i32[register + lane] = i32[word]!;
            else i32[word] = i32[register + lane]!;
          }
        }
      }
    };
  };
}

/** A row address outside of shared memory, or not a multiple of 16 bytes. */
export class MatrixFault extends Error {
  readonly lane: number;
  readonly address: number;

  constructor(lane: number, address: number) {
    super(`row address ${address} of lane ${lane}`);
    this.lane = lane;
    this.address = address;
  }
}

/** Rows and columns of the accumulator's elements: lane / 4 and its pair of columns, then eight rows below. */
type Accumulator = "f32" | "f16" | "s32";

/**
 * mma.sync: D = A B + C over a warp's fragments (PTX ISA, "Matrix Fragments for mma"). With n elements of A in a
 * register, register r of lane l holds row l/4 + 8 (r mod M/8), columns n (l mod 4) + 4n (r div M/8) and on; B the same
 * by columns. Products and sums are formed in double and rounded once, which is inside what PTX allows.
 */
function multiply(o: OperandReader): CollectiveRun {
  const { modifiers } = o.instruction;
  const shape = modifiers.map((m) => /^m(\d+)n8k(\d+)$/.exec(m)).find((m) => m !== null);
  const types = modifiers.slice(-4);
  if (!shape || !o.has("row") || !o.has("col") || modifiers.includes("sp")) o.unsupported();
  const [M, K] = [Number(shape[1]), Number(shape[2])];
  const [dType, aName, bName, cType] = types as [Accumulator, string, string, Accumulator];
  const [aType, bType] = [elementTypes[aName], elementTypes[bName]];
  if (!aType || !bType || aType.bits !== bType.bits || dType !== cType) o.unsupported();
  if (!["f32", "f16", "s32"].includes(dType) || (M !== 8 && M !== 16)) o.unsupported();
  // Volta's m8n8k4 spreads its fragments over quarter warps.
  if (M === 8 && aType.bits === 16) o.unsupported();
  const perWord = 32 / aType.bits;
  const bands = M / 8;
  const [dHomes, aHomes, bHomes, cHomes] = [0, 1, 2, 3].map((i) => o.homesOf(o.at(i))) as [
    number[],
    number[],
    number[],
    number[],
  ];
  const packed = dType === "f16";
  if (aHomes.length * perWord * 32 !== M * K || bHomes.length * perWord * 32 !== 8 * K)
    o.unsupported("its fragments have other sizes");
  const a = new Float64Array(M * K);
  const b = new Float64Array(8 * K);
  const saturates = o.has("satfinite");

  return (memory, warp) => {
    const { i32, f32, u16 } = memory;
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
          for (let k = 0; k < K; k++) sum += a[row + k]! * b[column + k]!;
          if (packed) {
            const half = 2 * (((warp + cHomes[band]!) >>> 2) + lane) + i;
            const to = 2 * (((warp + dHomes[band]!) >>> 2) + lane) + i;
            u16[to] = toHalf(sum + fromHalf(u16[half]!));
          } else {
            const from = ((warp + cHomes[2 * band + i]!) >>> 2) + lane;
            const to = ((warp + dHomes[2 * band + i]!) >>> 2) + lane;
            if (dType === "f32") f32[to] = sum + f32[from]!;
            else {
              const total = sum + i32[from]!;
              i32[to] = saturates ? Math.max(-(2 ** 31), Math.min(2 ** 31 - 1, total)) : total;
            }
          }
        }
      }
    }
  };
}

export const matrixOps: Readonly<Record<string, (o: OperandReader) => CollectiveRun>> = {
  ldmatrix: moveMatrices(true),
  stmatrix: moveMatrices(false),
  mma: multiply,
};
