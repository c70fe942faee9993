import { bool, type DType, float32, int32, int64, promote, uint8 } from "../../base/dtype.ts";
import { DTypeError, ShapeError } from "../../base/errors.ts";
import { broadcastShapes, formatShape, type Shape } from "../../base/shape.ts";
import * as kernels from "../../kernels/elementwise/elementwise.ts";
import { allocate, produce } from "../create.ts";
import { expandStrides } from "../layout.ts";
import type { Tensor } from "../tensor.ts";
import { describe, sameDevice } from "./check.ts";
import { cast, contiguous, copyInto, sameElements, writable } from "./copy.ts";

export type BinaryOp = "add" | "sub" | "mul" | "div" | "maximum" | "minimum";
export type UnaryOp = kernels.UnaryOp | "reciprocal";
/** The second operand: a tensor, or a number for every element. */
export type Operand = Tensor | number;

const kernelOps = { add: "add", sub: "sub", mul: "mul", div: "div", maximum: "max", minimum: "min" } as const;

export function binary(op: BinaryOp, a: Tensor, b: Operand): Tensor {
  const dtype = resultType(op, a, b);
  const work = workType(dtype);
  using result = typeof b === "number" ? withScalar(kernelOps[op], a, b, work) : withTensor(op, a, b, work);
  return cast(result, dtype);
}

function withScalar(op: kernels.BinaryOp, a: Tensor, scalar: number, work: DType): Tensor {
  using wide = cast(a, work);
  using from = contiguous(wide);
  return produce(a.device, a.shape, work, (out) =>
    kernels.binaryScalar(a.device.stream, { op, out: out.ptr, a: from.ptr, scalar, count: out.size, dtype: work }),
  );
}

function withTensor(op: BinaryOp, a: Tensor, b: Tensor, work: DType): Tensor {
  sameDevice(op, a, b);
  const shape = broadcastShapes(op, a.shape, b.shape);
  using x = cast(a, work);
  using y = cast(b, work);
  return produce(a.device, shape, work, (out) => launchBinary(op, out, x, y));
}

function launchBinary(op: BinaryOp, out: Tensor, a: Tensor, b: Tensor): void {
  kernels.binary(out.device.stream, {
    op: kernelOps[op],
    out: out.ptr,
    a: a.ptr,
    b: b.ptr,
    shape: out.shape,
    aStrides: expandStrides(op, a, out.shape),
    bStrides: expandStrides(op, b, out.shape),
    dtype: out.dtype,
  });
}

/** a = op(a, b). The result must have a's shape, and must not be float where a is an integer. */
export function binary_(op: BinaryOp, a: Tensor, b: Operand): void {
  const name = `${op}_`;
  const dtype = resultType(name, a, b, op);
  if (dtype.isFloat && !a.dtype.isFloat) {
    throw new DTypeError(
      `${name}: ${describe(a)} cannot hold the ${dtype.name} result with ${describeOperand(b)}; use ${op}(), or cast with to()`,
    );
  }
  writable(name, a);
  const direct = dtype === a.dtype && dtype === workType(dtype) && a.isContiguous;
  if (typeof b !== "number") {
    sameDevice(name, a, b);
    checkFits(name, op, a, b, broadcastShapes(name, a.shape, b.shape));
    if (direct && b.dtype === dtype && (b.storage !== a.storage || sameElements(a, b))) {
      launchBinary(op, a, a, b);
      return;
    }
  } else if (direct) {
    const { ptr, size: count } = a;
    kernels.binaryScalar(a.device.stream, { op: kernelOps[op], out: ptr, a: ptr, scalar: b, count, dtype });
    return;
  }
  using result = binary(op, a, b);
  copyInto(a, result);
}

function checkFits(name: string, op: BinaryOp, a: Tensor, b: Tensor, shape: Shape): void {
  if (formatShape(shape) === formatShape(a.shape)) return;
  throw new ShapeError(
    `${name}: the result with ${describe(b)} has shape ${formatShape(shape)} and does not fit ${describe(a)}; use ${op}()`,
  );
}

export function unary(op: UnaryOp, x: Tensor): Tensor {
  const dtype = unaryType(op, x);
  const work = workType(dtype);
  if (op === "reciprocal") return withScalar("rdiv", x, 1, work);
  using wide = cast(x, work);
  using from = contiguous(wide);
  using out = allocate(x.device, x.shape, work);
  kernels.unary(x.device.stream, { op, out: out.ptr, x: from.ptr, count: out.size, dtype: work });
  return cast(out, dtype);
}

export function unary_(op: UnaryOp, x: Tensor): void {
  const dtype = unaryType(`${op}_`, x, op);
  if (dtype !== x.dtype) {
    throw new DTypeError(`${op}_: ${describe(x)} cannot hold the ${dtype.name} result; use ${op}(), or cast with to()`);
  }
  writable(`${op}_`, x);
  using result = unary(op, x);
  copyInto(x, result);
}

/** What kernels compute a dtype in. Sums of bytes keep their low bits on the way back, as wrapping arithmetic does. */
function workType(dtype: DType): DType {
  return dtype === uint8 || dtype === bool ? int32 : dtype;
}

/**
 * The promoted dtype; a number takes part as PyTorch's Python scalars do: it never changes the dtype of a float tensor,
 * and turns integers to float32 only when it is not whole. Division always gives floats.
 */
function resultType(name: string, a: Tensor, b: Operand, op = name): DType {
  const dtype = typeof b === "number" ? withNumber(a.dtype, b) : promote(a.dtype, b.dtype);
  if (op === "div" && !dtype.isFloat) return float32;
  if (dtype === bool && (op === "add" || op === "sub" || op === "mul")) {
    throw new DTypeError(
      `${name}: no arithmetic on bool, got ${describe(a)} and ${describeOperand(b)}; cast one with to("int32")`,
    );
  }
  return dtype;
}

function withNumber(dtype: DType, value: number): DType {
  if (dtype.isFloat) return dtype;
  if (!Number.isInteger(value)) return float32;
  return dtype === bool ? int64 : dtype;
}

function unaryType(name: string, x: Tensor, op = name): DType {
  if (x.dtype.isFloat) return x.dtype;
  if (op !== "neg" && op !== "abs" && op !== "relu") return float32;
  if (x.dtype !== bool) return x.dtype;
  throw new DTypeError(`${name}: no arithmetic on bool, got ${describe(x)}; cast it with to("int32")`);
}

function describeOperand(b: Operand): string {
  return typeof b === "number" ? `the number ${b}` : describe(b);
}
