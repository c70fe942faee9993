import { memoryMap } from "../memory-map.ts";
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

/** movmatrix: an 8x8 matrix of 16-bit elements across the warp, transposed. */
function transpose(o: OperandReader): CollectiveRun {
  if (!o.has("m8n8") || !o.has("trans") || !o.has("b16")) o.unsupported();
  const [to = -1] = o.homesOf(o.at(0));
  const [from = -1] = o.homesOf(o.at(1));
  const matrix = new Uint16Array(64);
  return ({ u16 }, warp) => {
    // Lane l holds columns 2 (l mod 4) and the next of row l / 4: in order, so that a lane's words are the matrix itself.
    const source = (warp + from) >>> 1;
    for (let i = 0; i < 64; i++) matrix[i] = u16[source + i]!;
    const target = (warp + to) >>> 1;
    for (let row = 0; row < 8; row++)
      for (let column = 0; column < 8; column++) u16[target + 8 * row + column] = matrix[8 * column + row]!;
  };
}

export const matrixMoves: Readonly<Record<string, (o: OperandReader) => CollectiveRun>> = {
  ldmatrix: moveMatrices(true),
  stmatrix: moveMatrices(false),
  movmatrix: transpose,
};
