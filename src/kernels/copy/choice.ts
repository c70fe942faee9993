import type { Shape } from "../../base/shape.ts";
import { checkRank, coalesce, inUnits, isFlat, type Layout, unitWidth } from "../layout.ts";

/** How to move the elements of one view to another of the same type; strides are [out, x]. */
export type CopyChoice =
  /** Both are one run of memory: the driver's own copy. */
  | { readonly kind: "flat" }
  /** Units of `bytes`; the layout is in those units. */
  | { readonly kind: "strided"; readonly bytes: "1" | "2" | "4" | "8" | "16"; readonly layout: Layout }
  /** x runs along `rows`, out along `cols`; the layout is that of the other dimensions. */
  | {
      readonly kind: "tiled";
      readonly bytes: "1" | "2" | "4" | "8";
      readonly tile: number;
      readonly rows: number;
      readonly cols: number;
      readonly outRow: number;
      readonly xCol: number;
      readonly layout: Layout;
    };

/** Below this many elements along either side a tile is mostly empty, and the plain loop is as good. */
const smallestTiledSide = 8;

/**
 * Chooses by shape and strides (in elements) and by the alignment of the two addresses. Throws UnsupportedError for views
 * that need more dimensions than kernels take.
 */
export function chooseCopy(
  shape: Shape,
  outStrides: readonly number[],
  xStrides: readonly number[],
  elementBytes: number,
  out: bigint,
  x: bigint,
): CopyChoice {
  const layout = coalesce(shape, [outStrides, xStrides]);
  if (isFlat(layout)) return { kind: "flat" };
  checkRank("copy", layout);
  const tiled = asTranspose(layout, elementBytes);
  if (tiled) return tiled;
  const inner = layout.shape.length - 1;
  const offsets = [out, x].map((p) => Number(p % 16n) / elementBytes);
  const widths = [16, 8, 4, 2, 1].filter((w) => w * elementBytes <= 16);
  const width = layout.strides.every((s) => s[inner] === 1) ? unitWidth(layout, offsets, widths) : 1;
  return {
    kind: "strided",
    bytes: String(width * elementBytes) as "1" | "2" | "4" | "8" | "16",
    layout: width === 1 ? layout : inUnits(layout, width, true),
  };
}

function asTranspose(layout: Layout, elementBytes: number): CopyChoice | undefined {
  const [out, x] = layout.strides as [readonly number[], readonly number[]];
  const c = out.indexOf(1);
  const r = x.indexOf(1);
  if (c < 0 || r < 0 || c === r) return undefined;
  const rows = layout.shape[r]!;
  const cols = layout.shape[c]!;
  if (rows < smallestTiledSide || cols < smallestTiledSide) return undefined;
  const others = <T>(values: readonly T[]): T[] => values.filter((_, d) => d !== c && d !== r);
  const batch = coalesce(others(layout.shape), [others(out), others(x)]);
  return {
    kind: "tiled",
    bytes: String(elementBytes) as "1" | "2" | "4" | "8",
    tile: elementBytes <= 2 ? 64 : 32,
    rows,
    cols,
    outRow: out[r]!,
    xCol: x[c]!,
    layout: batch,
  };
}
