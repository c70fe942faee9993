/** Operands: corner cases in all combinations, then random values of several distributions. Seeded. */
import { Draw, registerBytes, type Source, type SourceRow, sources } from "./sources.ts";

/** Operand tuples for every instruction: 128 warps. */
export const rowCount = 4096;

const made = new Map<string, readonly Uint8Array[]>();

/** `rowCount` values for each source, the same on every machine. */
export function operandsOf(list: readonly Source[]): readonly Uint8Array[] {
  const key = list.join();
  let found = made.get(key);
  if (!found) {
    found = make(list, key);
    made.set(key, found);
  }
  return found;
}

function make(list: readonly Source[], key: string): Uint8Array[] {
  let seed = 1;
  for (const char of key) seed = (Math.imul(seed, 31) + char.charCodeAt(0)) >>> 0;
  const next = new Draw(seed);
  const rows: SourceRow[] = list.map((source) => sources[source]);
  const tuples: bigint[][] = [];
  const [first, second] = rows;
  const cornered = rows.every((row) => row.corners.length > 0);
  if (cornered && rows.length === 1) for (const a of first!.corners) tuples.push([a]);
  if (cornered && rows.length === 2) {
    for (const a of first!.corners) for (const b of second!.corners) tuples.push([a, b]);
    shuffle(tuples, next);
    // At most half of all; what is left out is drawn with the corners below.
    tuples.splice(rowCount / 2);
  }
  const cornerShare = cornered && rows.length > 2 ? 2 : 5;
  while (tuples.length < rowCount) {
    tuples.push(
      rows.map((row) =>
        row.corners.length > 0 && next.below(cornerShare) === 0 ? next.pick(row.corners) : row.draw(next),
      ),
    );
  }
  shuffle(tuples, next);
  return rows.map((row, i) => {
    const bytes = registerBytes(row.register);
    const out = new DataView(new ArrayBuffer(rowCount * bytes));
    tuples.forEach((tuple, r) => {
      if (bytes === 2) out.setUint16(2 * r, Number(tuple[i]!), true);
      else if (bytes === 4) out.setUint32(4 * r, Number(BigInt.asUintN(32, tuple[i]!)), true);
      else out.setBigUint64(8 * r, tuple[i]!, true);
    });
    return new Uint8Array(out.buffer);
  });
}

function shuffle<T>(items: T[], next: Draw): void {
  for (let i = items.length - 1; i > 0; i--) {
    const j = next.below(i + 1);
    [items[i], items[j]] = [items[j]!, items[i]!];
  }
}
