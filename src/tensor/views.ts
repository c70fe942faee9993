import { ArgumentError, ShapeError } from "../base/errors.ts";
import { contiguousStrides, formatShape, type Shape } from "../base/shape.ts";
import {
  checkShape,
  expandStrides,
  inferShape,
  type Layout,
  reshapeStrides,
  resolveDim,
  resolveDims,
} from "./layout.ts";

/** Views are new layouts over the same memory. Each function here gives the layout, or says why there is none. */

export function contiguousLayout(shape: Shape): Layout {
  return { shape, strides: contiguousStrides(shape), offset: 0 };
}

/** The layout of `shape` over the same elements in the same order, or undefined when that takes a copy. */
export function tryView(op: string, from: Layout, to: Shape): Layout | undefined {
  const shape = inferShape(op, from.shape, to);
  const strides = reshapeStrides(from, shape);
  return strides && { shape, strides, offset: from.offset };
}

export function view(from: Layout, to: Shape): Layout {
  const layout = tryView("view", from, to);
  if (layout) return layout;
  throw new ShapeError(
    `view: ${formatShape(from.shape)} with strides ${formatShape(from.strides)} does not lie in memory as ${formatShape(to)}; use reshape(), which copies where it must`,
  );
}

export function permute(from: Layout, dims: readonly number[]): Layout {
  const order = dims.map((dim) => resolveDim("permute", dim, from.shape));
  if (order.length !== from.shape.length || new Set(order).size !== order.length) {
    throw new ShapeError(
      `permute: [${dims.join(", ")}] does not order the dimensions of ${formatShape(from.shape)}; name each one once`,
    );
  }
  return {
    shape: order.map((dim) => from.shape[dim]!),
    strides: order.map((dim) => from.strides[dim]!),
    offset: from.offset,
  };
}

export function transpose(from: Layout, dim0: number, dim1: number): Layout {
  const a = resolveDim("transpose", dim0, from.shape);
  const b = resolveDim("transpose", dim1, from.shape);
  const order = from.shape.map((_, i) => (i === a ? b : i === b ? a : i));
  return permute(from, order);
}

/** Elements start, start + step, … below end; negative bounds count from the end, and all are clamped as in Python. */
export function slice(from: Layout, dim: number, start: number, end: number, step: number): Layout {
  const d = existingDim("slice", dim, from.shape);
  if (!Number.isInteger(step) || step < 1) {
    throw new ArgumentError(`slice: step must be a whole number, 1 or more, got ${step}`);
  }
  const size = from.shape[d]!;
  const bound = (at: number) => {
    if (Number.isNaN(at) || (Number.isFinite(at) && !Number.isInteger(at))) {
      throw new ArgumentError(`slice: bounds must be whole numbers, got ${at}`);
    }
    return Math.min(Math.max(at < 0 ? at + size : at, 0), size);
  };
  const first = bound(start);
  const count = Math.max(0, Math.ceil((bound(end) - first) / step));
  return {
    shape: from.shape.with(d, count),
    strides: from.strides.with(d, from.strides[d]! * step),
    offset: from.offset + first * from.strides[d]!,
  };
}

/** `length` elements from `start`; unlike slice, nothing is clamped. */
export function narrow(from: Layout, dim: number, start: number, length: number): Layout {
  const d = existingDim("narrow", dim, from.shape);
  const size = from.shape[d]!;
  const first = start < 0 ? start + size : start;
  const fits =
    Number.isInteger(first) && Number.isInteger(length) && first >= 0 && length >= 0 && first + length <= size;
  if (!fits) {
    throw new ShapeError(
      `narrow: ${length} elements from ${start} on do not lie within dimension ${dim} of ${formatShape(from.shape)}, which has ${size}`,
    );
  }
  return {
    shape: from.shape.with(d, length),
    strides: from.strides,
    offset: from.offset + first * from.strides[d]!,
  };
}

export function select(from: Layout, dim: number, index: number): Layout {
  const d = existingDim("select", dim, from.shape);
  const size = from.shape[d]!;
  const at = index < 0 ? index + size : index;
  if (!Number.isInteger(at) || at < 0 || at >= size) {
    throw new ShapeError(
      `select: index ${index} is outside dimension ${dim} of ${formatShape(from.shape)}, which has ${size} elements`,
    );
  }
  return {
    shape: from.shape.toSpliced(d, 1),
    strides: from.strides.toSpliced(d, 1),
    offset: from.offset + at * from.strides[d]!,
  };
}

/** -1 keeps the size of a dimension. */
export function expand(from: Layout, to: Shape): Layout {
  const lead = to.length - from.shape.length;
  const shape = to.map((size, i) => (size === -1 && i >= lead ? (from.shape[i - lead] ?? size) : size));
  checkShape("expand", shape);
  return { shape, strides: expandStrides("expand", from, shape), offset: from.offset };
}

/** Without `dims`, drops every dimension of size 1; with them, those of the named ones that have size 1. */
export function squeeze(from: Layout, dims: number | readonly number[] | undefined): Layout {
  const named = new Set(resolveDims("squeeze", dims, from.shape));
  const kept = (_: number, i: number) => !(named.has(i) && from.shape[i] === 1);
  return { shape: from.shape.filter(kept), strides: from.strides.filter(kept), offset: from.offset };
}

export function unsqueeze(from: Layout, dim: number): Layout {
  const d = resolveDim("unsqueeze", dim, from.shape, 1);
  const stride = d < from.shape.length ? from.strides[d]! * Math.max(1, from.shape[d]!) : 1;
  return {
    shape: from.shape.toSpliced(d, 0, 1),
    strides: from.strides.toSpliced(d, 0, stride),
    offset: from.offset,
  };
}

/** The shape after dimensions startDim to endDim became one. */
export function flattenedShape(shape: Shape, startDim: number, endDim: number): number[] {
  const start = resolveDim("flatten", startDim, shape);
  const end = resolveDim("flatten", endDim, shape);
  if (start > end) {
    throw new ShapeError(
      `flatten: dimension ${startDim} comes after dimension ${endDim} in ${formatShape(shape)}; name the earlier one first`,
    );
  }
  if (shape.length === 0) return [1];
  const joined = shape.slice(start, end + 1).reduce((n, size) => n * size, 1);
  return [...shape.slice(0, start), joined, ...shape.slice(end + 1)];
}

function existingDim(op: string, dim: number, shape: Shape): number {
  if (shape.length === 0) throw new ShapeError(`${op}: a tensor of shape [] has no dimension to take elements from`);
  return resolveDim(op, dim, shape);
}
