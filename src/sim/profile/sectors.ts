/** Global memory moves in sectors of this many bytes. */
export const sectorBytes = 32;

/** The sectors that one access of a warp touches, and the fewest that could hold the bytes it asks for. */
export interface SectorCount {
  readonly sectors: number;
  readonly ideal: number;
}

/** For lanes that access `bytes` bytes each at `addresses`, by lane, multiples of `bytes`. Bytes that several lanes name move once. */
export function countSectors(addresses: Uint32Array, lanes: number, bytes: number): SectorCount {
  const distinct = new Set<number>();
  const sectors = new Set<number>();
  for (let rest = lanes; rest !== 0; rest &= rest - 1) {
    const address = addresses[31 - Math.clz32(rest & -rest)]!;
    distinct.add(address);
    for (let at = address - (address % sectorBytes); at < address + bytes; at += sectorBytes) sectors.add(at);
  }
  return { sectors: sectors.size, ideal: Math.ceil((distinct.size * bytes) / sectorBytes) };
}
