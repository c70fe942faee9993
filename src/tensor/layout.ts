import { ShapeError } from "../base/errors.ts";
import { contiguousStrides, elementCount, formatShape, type Shape } from "../base/shape.ts";

/** Where the elements of a tensor lie: element [i, j, …] is at offset + i · strides[0] + j · strides[1] + …, in elements. */
export interface Layout {
  readonly shape: Shape;
  /** Never negative; 0 where one element serves a whole dimension (`expand`). */
  readonly strides: readonly number[];
  readonly offset: number;
}

/** A shape as one array or as separate numbers. */
export type ShapeArgs = [Shape] | number[];

export function shapeOf(args: ShapeArgs): Shape {
  return typeof args[0] === "object" ? args[0] : (args as number[]);
}

export function checkShape(op: string, shape: Shape): void {
  if (shape.every((size) => Number.isSafeInteger(size) && size >= 0)) return;
  throw new ShapeError(`${op}: shape ${formatShape(shape)} is not usable; sizes must be whole numbers, 0 or more`);
}

/** The dimension that `dim` means, negative ones counting from the end. A rank 0 tensor has a dimension 0 to reduce over. */
export function resolveDim(op: string, dim: number, shape: Shape, extra = 0): number {
  const rank = Math.max(1, shape.length + extra);
  if (Number.isInteger(dim) && dim >= -rank && dim < rank) return dim < 0 ? dim + rank : dim;
  throw new ShapeError(
    `${op}: dimension ${dim} does not exist for shape ${formatShape(shape)}; expected ${-rank} to ${rank - 1}`,
  );
}

/** Every dimension that `dims` means, ascending; all of them for undefined. Throws ShapeError when one is named twice. */
export function resolveDims(op: string, dims: number | readonly number[] | undefined, shape: Shape): number[] {
  if (dims === undefined) return shape.map((_, i) => i);
  const list = (typeof dims === "number" ? [dims] : dims).map((dim) => resolveDim(op, dim, shape));
  if (new Set(list).size !== list.length) {
    throw new ShapeError(`${op}: dimensions [${list.join(", ")}] of shape ${formatShape(shape)} name one twice`);
  }
  return list.filter((dim) => dim < shape.length).sort((a, b) => a - b);
}

/** `to` with its -1, if it has one, replaced by the size that makes it hold as many elements as `from`. */
export function inferShape(op: string, from: Shape, to: Shape): number[] {
  const elements = elementCount(from);
  const unknown = to.filter((size) => size === -1).length;
  const known = to.reduce((n, size) => (size === -1 ? n : n * size), 1);
  const fits =
    to.every((size) => Number.isInteger(size) && size >= -1) &&
    (unknown === 0 ? known === elements : unknown === 1 && known > 0 && elements % known === 0);
  if (!fits) {
    throw new ShapeError(
      `${op}: ${formatShape(from)} has ${elements} elements and does not fit ${formatShape(to)}; at most one size may be -1`,
    );
  }
  return to.map((size) => (size === -1 ? elements / known : size));
}

/** True when the elements lie in row-major order without gaps; dimensions of size 1 may have any stride. */
export function isContiguous({ shape, strides }: Pick<Layout, "shape" | "strides">): boolean {
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    const size = shape[i]!;
    if (size === 0) return true;
    if (size !== 1 && strides[i] !== step) return false;
    step *= size;
  }
  return true;
}

/** True when two indices lead to one element, so that writing through this layout is ambiguous. */
export function overlapsItself({ shape, strides }: Pick<Layout, "shape" | "strides">): boolean {
  if (elementCount(shape) === 0) return false;
  return shape.some((size, i) => size > 1 && strides[i] === 0);
}

/**
 * Strides under which the same memory has shape `to`, or undefined when only a copy can have it. Neighbouring dimensions
 * that lie without gaps form a chunk; `to` must divide every chunk into whole dimensions.
 */
export function reshapeStrides({ shape, strides }: Layout, to: Shape): number[] | undefined {
  if (elementCount(shape) === 0 || shape.length === 0) return contiguousStrides(to);
  const out = new Array<number>(to.length);
  let target = to.length - 1;
  let chunkStride = strides.at(-1)!;
  let chunkSize = 1;
  let filled = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    chunkSize *= shape[i]!;
    const chunkEnds = i === 0 || (shape[i - 1] !== 1 && strides[i - 1] !== chunkSize * chunkStride);
    if (!chunkEnds) continue;
    while (target >= 0 && (filled < chunkSize || to[target] === 1)) {
      out[target] = filled * chunkStride;
      filled *= to[target]!;
      target--;
    }
    if (filled !== chunkSize) return undefined;
    if (i > 0) chunkStride = strides[i - 1]!;
    chunkSize = 1;
    filled = 1;
  }
  return target === -1 ? out : undefined;
}

/** Strides that repeat `layout` to `shape`, which its shape must broadcast to. Throws ShapeError. */
export function expandStrides(op: string, layout: Layout, shape: Shape): number[] {
  const lead = shape.length - layout.shape.length;
  const fits = lead >= 0 && layout.shape.every((size, i) => size === shape[i + lead] || size === 1);
  if (!fits) {
    throw new ShapeError(
      `${op}: ${formatShape(layout.shape)} does not expand to ${formatShape(shape)}; aligned at the end, sizes must be equal or 1`,
    );
  }
  return shape.map((size, i) => {
    if (i < lead) return 0;
    return layout.shape[i - lead] === 1 && size !== 1 ? 0 : layout.strides[i - lead]!;
  });
}
