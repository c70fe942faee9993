import { fma64 } from "./float64.ts";
import type { CollectiveRun, OperandReader } from "./operands.ts";

const modes = ["rn", "rz", "rm", "rp"] as const;

/** mma.m8n8k4 of doubles: lane l has A(l / 4, l mod 4), B(l mod 4, l / 4) and two sums of row l / 4. */
export function doubleProduct(o: OperandReader): CollectiveRun {
  if (!o.has("m8n8k4")) return o.unsupported();
  const mode = Math.max(
    0,
    modes.findIndex((m) => o.has(m)),
  ) as 0 | 1 | 2 | 3;
  const [dHomes, [a = -1], [b = -1], cHomes] = o.productHomes();
  const sums = new BigUint64Array(64);
  return ({ u64 }, warp) => {
    const at = (home: number, lane: number): number => ((warp + home) >>> 3) + lane;
    for (let row = 0; row < 8; row++) {
      for (let column = 0; column < 8; column++) {
        let sum = u64[at(cHomes[column & 1]!, 4 * row + (column >>> 1))]!;
        for (let k = 0; k < 4; k++) sum = fusedBits(u64[at(a, 4 * row + k)]!, u64[at(b, 4 * column + k)]!, sum, mode);
        sums[8 * row + column] = sum;
      }
    }
    for (let row = 0; row < 8; row++)
      for (let column = 0; column < 8; column++)
        u64[at(dHomes[column & 1]!, 4 * row + (column >>> 1))] = sums[8 * row + column]!;
  };
}

const view = new DataView(new ArrayBuffer(8));

function toNumber(bits: bigint): number {
  view.setBigUint64(0, bits);
  return view.getFloat64(0);
}

/** fma on bits: JavaScript's numbers lose the payload of a NaN. The first that is one, of b, c and a, is kept. */
function fusedBits(a: bigint, b: bigint, c: bigint, mode: 0 | 1 | 2 | 3): bigint {
  const result = fma64(toNumber(a), toNumber(b), toNumber(c), mode);
  if (!Number.isNaN(result)) {
    view.setFloat64(0, result);
    return view.getBigUint64(0);
  }
  const nan = [b, c, a].find((bits) => Number.isNaN(toNumber(bits)));
  return nan === undefined ? 0xfff8000000000000n : nan | (1n << 51n);
}
