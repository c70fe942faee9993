import type { Counts } from "./counts.ts";
import { sectorBytes } from "./sectors.ts";
import { matrixPasses } from "./shared-banks.ts";

/** What one matrix instruction reads or writes: rows of ldmatrix and stmatrix, elements of wmma. */
export class MatrixAccesses {
  readonly #addresses: number[] = [];
  #bytes = 0;
  #writes = false;

  add(address: number, bytes: number, writes: boolean): void {
    this.#addresses.push(address);
    this.#bytes = bytes;
    this.#writes = writes;
  }

  get first(): number | undefined {
    return this.#addresses[0];
  }

  /** Rows of eight 16-bit elements in shared memory. */
  takeRows(): Partial<Counts> {
    const rows = Uint32Array.from(this.#addresses);
    const { passes, ideal } = matrixPasses(rows, rows.length);
    const sharedBytes = 16 * rows.length;
    this.#clear();
    return { sharedBytes, sharedPasses: passes, idealPasses: ideal };
  }

  /**
   * Elements of a wmma tile. Which lane moves which element is not documented, so that bank conflicts cannot be told: the
   * passes are those that the words of the tile take at best.
   */
  takeElements(isGlobal: boolean): Partial<Counts> {
    const bytes = this.#bytes;
    const distinct = new Set(this.#addresses);
    const touched = (unit: number) => new Set([...distinct].map((address) => Math.floor(address / unit))).size;
    const all = bytes * distinct.size;
    const writes = this.#writes;
    this.#clear();
    if (!isGlobal) {
      const passes = Math.ceil(touched(4) / 32);
      return { sharedBytes: all, sharedPasses: passes, idealPasses: passes };
    }
    const sectors = touched(sectorBytes);
    const idealSectors = Math.ceil(all / sectorBytes);
    return writes
      ? { writtenBytes: all, writtenSectors: sectors, idealSectors }
      : { readBytes: all, readSectors: sectors, idealSectors };
  }

  #clear(): void {
    this.#addresses.length = 0;
  }
}
