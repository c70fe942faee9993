import { bool, type DType, float32, int64, promote } from "../../base/dtype.ts";
import { DTypeError, ShapeError } from "../../base/errors.ts";
import { broadcastShapes, formatShape } from "../../base/shape.ts";
import { allocate } from "../create.ts";
import { expandStrides } from "../layout.ts";
import type { Tensor } from "../tensor.ts";
import { describe, sameDevice } from "./check.ts";
import { sameElements, writable } from "./copy.ts";
import { launchBinary, launchScalar, launchUnary, type Strided } from "./pending.ts";

export type BinaryOp = "add" | "sub" | "mul" | "div" | "maximum" | "minimum";
export type UnaryOp =
  | "neg"
  | "abs"
  | "exp"
  | "log"
  | "sqrt"
  | "rsqrt"
  | "reciprocal"
  | "tanh"
  | "sigmoid"
  | "sin"
  | "cos"
  | "relu"
  | "silu"
  | "gelu"
  | "geluTanh";
/** The second operand: a tensor, or a number for every element. */
export type Operand = Tensor | number;

export function binary(op: BinaryOp, a: Tensor, b: Operand): Tensor {
  const dtype = resultType(op, a, b);
  const shape = typeof b === "number" ? a.shape : broadcastShapes(op, a.shape, b.shape);
  const out = allocate(a.device, shape, dtype);
  run(op, out, a, b);
  return out;
}

/** a = op(a, b). The result must fit a's shape, and its dtype must not be a wider kind than a's. */
export function binary_(op: BinaryOp, a: Tensor, b: Operand): void {
  const name = `${op}_`;
  const dtype = resultType(name, a, b, op);
  if (dtype.isFloat && !a.dtype.isFloat) {
    throw new DTypeError(
      `${name}: ${describe(a)} cannot hold the ${dtype.name} result with ${describeOperand(b)}; use ${op}(), or cast with to()`,
    );
  }
  writable(name, a);
  if (typeof b !== "number") {
    const shape = broadcastShapes(name, a.shape, b.shape);
    if (formatShape(shape) !== formatShape(a.shape)) {
      throw new ShapeError(
        `${name}: the result with ${describe(b)} has shape ${formatShape(shape)} and does not fit ${describe(a)}; use ${op}()`,
      );
    }
  }
  run(op, a, a, b);
}

export function unary(op: UnaryOp, x: Tensor): Tensor {
  const out = allocate(x.device, x.shape, unaryType(op, x));
  launch(op, out, x);
  return out;
}

export function unary_(op: UnaryOp, x: Tensor): void {
  const dtype = unaryType(`${op}_`, x, op);
  if (dtype !== x.dtype) {
    throw new DTypeError(`${op}_: ${describe(x)} cannot hold the ${dtype.name} result; use ${op}(), or cast with to()`);
  }
  writable(`${op}_`, x);
  launch(op, x, x);
}

function launch(op: UnaryOp, out: Tensor, x: Tensor): void {
  if (out.size === 0) return;
  const { shape, dtype } = out;
  launchUnary(out.device.stream, { op, out: strided(out), a: strided(x), shape, dtype });
}

function run(op: BinaryOp, out: Tensor, a: Tensor, b: Operand): void {
  if (typeof b === "number") {
    if (out.size === 0) return;
    const { shape, dtype } = out;
    launchScalar(out.device.stream, { op, out: strided(out), a: strided(a), value: b, shape, dtype });
    return;
  }
  sameDevice(op, a, b);
  if (out.size === 0) return;
  if (out.storage === b.storage && !sameElements(out, b)) {
    // Another view of the memory that is about to change: elements must be read before they are written.
    using apart = b.clone();
    run(op, out, a, apart);
    return;
  }
  const { shape, dtype } = out;
  launchBinary(out.device.stream, {
    op,
    out: strided(out),
    a: { ...strided(a), strides: expandStrides(op, a, shape) },
    b: { ...strided(b), strides: expandStrides(op, b, shape) },
    shape,
    dtype,
  });
}

function strided(x: Tensor): Strided {
  return { ptr: x.ptr, strides: x.strides, dtype: x.dtype };
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
