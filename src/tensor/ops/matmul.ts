import { DTypeError, ShapeError } from "../../base/errors.ts";
import { broadcastShapes, elementCount, type Shape } from "../../base/shape.ts";
import { type DevicePtr, ptrAdd } from "../../driver/api.ts";
import { matmul as launchMatmul } from "../../kernels/matmul/matmul.ts";
import { allocate } from "../create.ts";
import { expandStrides, type Layout } from "../layout.ts";
import type { Tensor } from "../tensor.ts";
import { describe, sameDevice } from "./check.ts";
import { contiguous } from "./copy.ts";

export function matmul(a: Tensor, b: Tensor): Tensor {
  sameDevice("matmul", a, b);
  if (a.dtype !== b.dtype || !a.dtype.isFloat) {
    throw new DTypeError(
      `matmul: operands must both be float32, float16 or bfloat16, got ${describe(a)} and ${describe(b)}; cast with to()`,
    );
  }
  if (a.rank === 0 || b.rank === 0) {
    throw new ShapeError(
      `matmul: operands need at least one dimension, got ${describe(a)} and ${describe(b)}; use mul()`,
    );
  }
  using left = a.rank === 1 ? a.unsqueeze(0) : a.alias(a);
  using right = b.rank === 1 ? b.unsqueeze(1) : b.alias(b);
  const [m, k] = left.shape.slice(-2) as [number, number];
  const [kOfB, n] = right.shape.slice(-2) as [number, number];
  if (k !== kOfB) {
    throw new ShapeError(
      `matmul: ${describe(a)} and ${describe(b)} do not fit: the last dimension of the first is ${k}, that of the second to sum over is ${kOfB}`,
    );
  }
  const batch = broadcastShapes("matmul (batch dimensions)", left.shape.slice(0, -2), right.shape.slice(0, -2));
  using out = allocate(a.device, [...batch, m, n], a.dtype);
  run(out, left, right, batch, { m, n, k });
  const shape = [...batch, ...(a.rank === 1 ? [] : [m]), ...(b.rank === 1 ? [] : [n])];
  return out.view(shape);
}

/** A matrix operand in memory: stored as it is read, or transposed, rows `ld` elements apart. */
interface Operand {
  readonly tensor: Tensor;
  readonly transposed: boolean;
  readonly ld: number;
}

function run(out: Tensor, left: Tensor, right: Tensor, batch: Shape, size: { m: number; n: number; k: number }): void {
  if (out.size === 0) return;
  const { n, k } = size;
  using ownLeft = readable(left);
  using ownRight = readable(right);
  const a = asOperand(ownLeft);
  const b = asOperand(ownRight);
  let { m } = size;
  let loops = batchLoops(ownLeft, ownRight, batch, m * n);
  // One matrix for the whole batch: the batch is more rows of the other operand, and a single product.
  if (elementCount(right.shape.slice(0, -2)) === 1 && !a.transposed && rowsRunOn(ownLeft)) {
    m *= elementCount(batch);
    loops = { count: 1, strides: { a: 0, b: 0, out: 0 }, starts: [{ a: 0, b: 0, out: 0 }] };
  }
  const bytes = out.dtype.bytes;
  for (const start of loops.starts) {
    launchMatmul(out.device.stream, {
      out: at(out.ptr, start.out * bytes),
      a: at(ownLeft.ptr, start.a * bytes),
      b: at(ownRight.ptr, start.b * bytes),
      m,
      n,
      k,
      dtype: out.dtype,
      transposeA: a.transposed,
      transposeB: b.transposed,
      lda: a.ld,
      ldb: b.ld,
      batch: loops.count,
      batchStrides: loops.strides,
    });
  }
}

function at(ptr: DevicePtr, bytes: number): DevicePtr {
  return bytes === 0 ? ptr : ptrAdd(ptr, bytes);
}

/** The tensor itself when kernels can read its matrices as they lie, else a contiguous copy. */
function readable(x: Tensor): Tensor {
  return storedRows(x) ? x.alias(x) : contiguous(x);
}

function asOperand(x: Tensor): Operand {
  const stored = storedRows(x);
  if (!stored) throw new ShapeError(`matmul: ${describe(x)} has no readable matrices`);
  return { tensor: x, ...stored };
}

/** How the last two dimensions lie: one of them must be without gaps, and rows must not overlap. */
function storedRows(x: Tensor): { transposed: boolean; ld: number } | undefined {
  const [rows, cols] = x.shape.slice(-2) as [number, number];
  const [rowStride, colStride] = x.strides.slice(-2) as [number, number];
  if (colStride === 1 || cols <= 1) {
    if (rows <= 1) return { transposed: false, ld: Math.max(1, cols) };
    if (rowStride >= Math.max(1, cols)) return { transposed: false, ld: rowStride };
  }
  if (rowStride === 1 || rows <= 1) {
    if (cols <= 1) return { transposed: true, ld: Math.max(1, rows) };
    if (colStride >= Math.max(1, rows)) return { transposed: true, ld: colStride };
  }
  return undefined;
}

/** True when the last row of each matrix is followed by the first of the next, at the same distance. */
function rowsRunOn(x: Tensor): boolean {
  const last = x.rank - 2;
  const unit = x.shape[x.rank - 1]! <= 1 || x.strides[x.rank - 1] === 1;
  let step = x.shape[last]! * x.strides[last]!;
  for (let i = last - 1; i >= 0; i--) {
    if (x.shape[i] !== 1 && x.strides[i] !== step) return false;
    step *= x.shape[i]!;
  }
  return unit && (x.shape[last] !== 1 || x.strides[last]! >= x.shape[x.rank - 1]!);
}

interface Offsets {
  readonly a: number;
  readonly b: number;
  readonly out: number;
}

/** The batch as `count` products at fixed distances, launched once for each of `starts`. */
interface BatchLoops {
  readonly count: number;
  readonly strides: Offsets;
  readonly starts: readonly Offsets[];
}

/** Joins as many trailing batch dimensions as lie at one distance in both operands; the rest become launches. */
function batchLoops(a: Tensor, b: Tensor, batch: Shape, outStep: number): BatchLoops {
  const aStrides = batchStrides(a, batch);
  const bStrides = batchStrides(b, batch);
  let count = 1;
  let strides: Offsets = { a: 0, b: 0, out: outStep };
  let dim = batch.length - 1;
  for (; dim >= 0; dim--) {
    const size = batch[dim]!;
    if (size === 1) continue;
    if (count === 1) strides = { a: aStrides[dim]!, b: bStrides[dim]!, out: outStep };
    else if (aStrides[dim] !== count * strides.a || bStrides[dim] !== count * strides.b) break;
    count *= size;
  }
  let starts: Offsets[] = [{ a: 0, b: 0, out: 0 }];
  let step = count * outStep;
  for (; dim >= 0; dim--) {
    const outer = Array.from({ length: batch[dim]! }, (_, i) => i);
    const [sa, sb, so] = [aStrides[dim]!, bStrides[dim]!, step];
    starts = outer.flatMap((i) => starts.map((s) => ({ a: s.a + i * sa, b: s.b + i * sb, out: s.out + i * so })));
    step *= batch[dim]!;
  }
  return { count, strides, starts };
}

function batchStrides(x: Layout, batch: Shape): number[] {
  const layout = { shape: x.shape.slice(0, -2), strides: x.strides.slice(0, -2), offset: 0 };
  return expandStrides("matmul", layout, batch);
}
