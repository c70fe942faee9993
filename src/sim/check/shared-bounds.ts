import type { SharedLayout, SharedRange } from "../compile/shared-layout.ts";

/** What the threads of a launch may touch of their block's shared memory. */
export class SharedBounds {
  readonly #ranges: readonly SharedRange[];
  /** Where shared memory ends. */
  readonly bytes: number;

  constructor({ ranges, dynamicOffset }: SharedLayout, dynamicBytes: number) {
    const dynamic = { name: "dynamic shared memory", offset: dynamicOffset, bytes: dynamicBytes };
    this.#ranges = dynamicBytes > 0 ? [...ranges, dynamic] : ranges;
    this.bytes = dynamicOffset + dynamicBytes;
  }

  /** True for what lies in one variable, or in dynamic shared memory. */
  contain(offset: number, bytes: number): boolean {
    for (const range of this.#ranges) {
      if (offset >= range.offset && offset + bytes <= range.offset + range.bytes) return true;
    }
    return false;
  }

  /** `4 bytes into tile (128 bytes)`: of the range that is nearest. */
  describe(offset: number): string {
    let best: SharedRange | undefined;
    let distance = Number.POSITIVE_INFINITY;
    for (const range of this.#ranges) {
      const away = Math.max(range.offset - offset, offset - (range.offset + range.bytes - 1), 0);
      if (away < distance) [best, distance] = [range, away];
    }
    if (!best) return "in a block without shared memory";
    return `${describeDistance(offset - best.offset, best.bytes)} ${readableName(best.name)} (${best.bytes} bytes)`;
  }
}

/** `_ZZ12block_reduceI3MaxEffE7scratch`, a variable inside a function as nvcc mangles it: `block_reduce::scratch`. */
function readableName(name: string): string {
  const [, length, rest = ""] = /^_ZZ(\d+)(\w.*)$/.exec(name) ?? [];
  const inner = [...rest.matchAll(/E(\d+)(?=[A-Za-z_])/g)].at(-1);
  if (!length || !inner) return name;
  const begin = inner.index + inner[0].length;
  return `${rest.slice(0, Number(length))}::${rest.slice(begin, begin + Number(inner[1]))}`;
}

/** Where something lies that begins `away` bytes behind the begin of a range: `3 bytes before`, `just past the end of`. */
export function describeDistance(away: number, bytes: number): string {
  if (away < 0) return `${-away} bytes before`;
  if (away < bytes) return `${away} bytes into`;
  return away === bytes ? "just past the end of" : `${away - bytes} bytes past the end of`;
}
