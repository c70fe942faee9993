import { UnsupportedError } from "../base/errors.ts";
import type { Shape } from "../base/shape.ts";
import { maxDims } from "./arguments.ts";

/** Several views of one shape: `strides[operand][dimension]`, in elements; 0 where the operand is broadcast. */
export interface Layout {
  readonly shape: readonly number[];
  readonly strides: readonly (readonly number[])[];
}

/**
 * The same elements in the same order with as few dimensions as possible: dimensions of size 1 go, and neighbours merge
 * when every operand steps over both evenly. A single element gives the shape [1]. At least one dimension remains.
 */
export function coalesce(shape: Shape, strides: readonly (readonly number[])[]): Layout {
  const sizes: number[] = [];
  const kept: number[] = []; // the dimension of `shape` that each entry of `sizes` takes its strides from
  for (let d = 0; d < shape.length; d++) {
    const size = shape[d]!;
    if (size === 1) continue;
    const last = kept.length - 1;
    if (last >= 0 && mergeable(strides, kept[last]!, d, size)) {
      sizes[last] = sizes[last]! * size;
      kept[last] = d;
    } else {
      sizes.push(size);
      kept.push(d);
    }
  }
  if (kept.length === 0) return { shape: [1], strides: strides.map(() => [1]) };
  return { shape: sizes, strides: strides.map((s) => kept.map((d) => s[d]!)) };
}

/** True when a step along `outer` is `size` steps along `inner`, for every operand. */
function mergeable(strides: readonly (readonly number[])[], outer: number, inner: number, size: number): boolean {
  for (const s of strides) if (s[outer] !== s[inner]! * size) return false;
  return true;
}

/** Throws UnsupportedError when a kernel's parameters cannot hold the layout. */
export function checkRank(op: string, layout: Layout): void {
  if (layout.shape.length <= maxDims) return;
  throw new UnsupportedError(
    `${op}: the view has ${layout.shape.length} dimensions that do not merge, and kernels take ${maxDims}; make the operands contiguous first`,
  );
}

/** True when the bytes of a merged one-dimensional layout lie one after another for every operand. */
export function isFlat(layout: Layout): boolean {
  return layout.shape.length === 1 && (layout.shape[0] === 1 || layout.strides.every((s) => s[0] === 1));
}

/**
 * The largest `width` of `widths` (falling powers of two) such that `width` neighbours can move as one unit: they are
 * the innermost dimension's, and every address of such a unit is a multiple of the unit. Operands that are broadcast
 * along the innermost dimension (stride 0) do not count. `offsets`: each operand's address, in elements.
 */
export function unitWidth(layout: Layout, offsets: readonly number[], widths: readonly number[]): number {
  for (const width of widths) if (width === 1 || unitFits(layout, offsets, width)) return width;
  return 1;
}

function unitFits({ shape, strides }: Layout, offsets: readonly number[], width: number): boolean {
  const inner = shape.length - 1;
  if (shape[inner]! % width !== 0) return false;
  for (let k = 0; k < strides.length; k++) {
    const steps = strides[k]!;
    if (steps[inner] === 0) continue;
    if (steps[inner] !== 1 || offsets[k]! % width !== 0) return false;
    for (let d = 0; d < inner; d++) if (steps[d]! % width !== 0) return false;
  }
  return true;
}

/** The layout in units of `width` elements along the innermost dimension; strides stay in elements unless `scaled`. */
export function inUnits(layout: Layout, width: number, scaled: boolean): Layout {
  const inner = layout.shape.length - 1;
  return {
    shape: layout.shape.map((size, d) => (d === inner ? size / width : size)),
    strides: layout.strides.map((s) =>
      scaled
        ? s.map((step, d) => (d === inner ? step : step / width))
        : s.map((step, d) => (d === inner ? step * width : step)),
    ),
  };
}
