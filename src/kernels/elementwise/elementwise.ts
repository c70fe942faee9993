import type { DType } from "../../base/dtype.ts";
import { DTypeError } from "../../base/errors.ts";
import { contiguousStrides, elementCount, type Shape } from "../../base/shape.ts";
import type { DevicePtr } from "../../driver/api.ts";
import { nullPtr } from "../../driver/api.ts";
import type { Stream } from "../../driver/stream.ts";
import { gridStrideBlocks } from "../grid.ts";
import { checkRank, coalesce, inUnits, type Layout, unitWidth } from "../layout.ts";
import { launch } from "../library.ts";
import { defineKernel, type Target } from "../spec.ts";

/** The element types of the arithmetic kernels. */
const arithmeticTypes = ["f32", "f16", "bf16", "i32", "i64"] as const;
export type ArithmeticType = (typeof arithmeticTypes)[number];

/** bf16 has conversion instructions from sm_80 on; nothing else here differs between targets. */
function targetsOf({ dtype }: { readonly dtype: string }): readonly Target[] {
  return dtype === "bf16" ? ["sm_60", "sm_80"] : ["sm_60"];
}

export const binaryKernel = defineKernel({
  family: "binary",
  source: "elementwise/binary.cu",
  args: {
    out: "ptr",
    a: "ptr",
    b: "ptr",
    items: "i64",
    op: "i32",
    vector: "i32",
    aKind: "i32",
    bKind: "i32",
    floatConstant: "f32",
    integerConstant: "i64",
    rank: "i32",
    shape: "dims",
    aStrides: "dims",
    bStrides: "dims",
  },
  axes: { dtype: arithmeticTypes },
  targets: targetsOf,
});

export const unaryKernel = defineKernel({
  family: "unary",
  source: "elementwise/unary.cu",
  args: { out: "ptr", x: "ptr", count: "i64", op: "i32", vector: "i32" },
  axes: { dtype: arithmeticTypes },
  targets: targetsOf,
});

/** Codes of the kernel; `rsub` and `rdiv` swap their operands; `softcap` is b · tanh(a / b). */
const binaryOps = { add: 0, sub: 1, mul: 2, div: 3, min: 4, max: 5, rsub: 6, rdiv: 7, softcap: 8 } as const;
export type BinaryOp = keyof typeof binaryOps;

const unaryOps = {
  neg: 0,
  abs: 1,
  relu: 2,
  exp: 3,
  log: 4,
  sqrt: 5,
  rsqrt: 6,
  sigmoid: 7,
  tanh: 8,
  silu: 9,
  gelu: 10,
  geluErf: 11,
} as const;
/** `gelu` is the tanh approximation, `geluErf` the exact function. */
export type UnaryOp = keyof typeof unaryOps;

const kinds = { each: 0, repeated: 1, constant: 2 } as const;

/** The kernel's type axis for `dtype`. Throws DTypeError for uint8 and bool, and for operations that integers lack. */
export function arithmeticType(op: BinaryOp | UnaryOp, dtype: DType): ArithmeticType {
  const found = arithmeticTypes.find((t) => t === dtype.short);
  if (!found) throw new DTypeError(`${op}: no kernel for ${dtype.name}; cast to int32 or a floating type first`);
  if (!dtype.isFloat && !integerOps.has(op)) {
    throw new DTypeError(`${op}: not defined for ${dtype.name}; cast to a floating type first`);
  }
  return found;
}
const integerOps = new Set<string>(["add", "sub", "mul", "min", "max", "rsub", "neg", "abs", "relu"]);

/** Whether items are vectors, and the layout of items; strides are [a, b]. */
export interface BinaryChoice {
  readonly vector: boolean;
  readonly layout: Layout;
}

/** Vectors of 16 bytes where both operands allow them: innermost stride 1 or 0, everything else aligned. */
export function chooseBinary(
  shape: Shape,
  strides: readonly [readonly number[], readonly number[]],
  elementBytes: number,
  addresses: { out: bigint; a: bigint; b: bigint },
): BinaryChoice {
  // The output takes part, so that only dimensions merge over which it is contiguous too: all of them.
  const layout = coalesce(shape, [contiguousStrides(shape), ...strides]);
  const width = 16 / elementBytes;
  const offsets = [addresses.out, addresses.a, addresses.b].map((p) => Number(p % 16n) / elementBytes);
  const vector = unitWidth(layout, offsets, [width, 1]) === width;
  const items = vector ? inUnits(layout, width, false) : layout;
  return { vector, layout: { shape: items.shape, strides: items.strides.slice(1) } };
}

export interface BinaryArgs {
  readonly op: BinaryOp;
  /** Contiguous, of `shape`. May be `a` or `b` itself when that has the same layout. */
  readonly out: DevicePtr;
  readonly a: DevicePtr;
  readonly b: DevicePtr;
  readonly shape: Shape;
  /** In elements, one per dimension of `shape`; 0 where the operand is broadcast. */
  readonly aStrides: readonly number[];
  readonly bStrides: readonly number[];
  readonly dtype: DType;
}

/**
 * out = op(a, b), element by element. float32, float16, bfloat16 (one rounding), int32, int64 (wrapping; no division).
 * Throws DTypeError; UnsupportedError for more than eight dimensions that do not merge.
 */
export function binary(stream: Stream, p: BinaryArgs): void {
  const dtype = arithmeticType(p.op, p.dtype);
  if (elementCount(p.shape) === 0) return;
  const { vector, layout } = chooseBinary(p.shape, [p.aStrides, p.bStrides], p.dtype.bytes, p);
  checkRank(p.op, layout);
  const items = elementCount(layout.shape);
  const inner = layout.shape.length - 1;
  const kind = (strides: readonly number[]): number => (vector && strides[inner] === 0 ? kinds.repeated : kinds.each);
  launch(
    stream,
    binaryKernel,
    { dtype },
    { grid: [gridStrideBlocks(stream.device, items, 256)], block: 256 },
    {
      out: p.out,
      a: p.a,
      b: p.b,
      items: BigInt(items),
      op: binaryOps[p.op],
      vector: vector ? 1 : 0,
      aKind: kind(layout.strides[0]!),
      bKind: kind(layout.strides[1]!),
      floatConstant: 0,
      integerConstant: 0n,
      rank: layout.shape.length,
      shape: layout.shape,
      aStrides: layout.strides[0]!,
      bStrides: layout.strides[1]!,
    },
  );
}

export interface BinaryScalarArgs {
  readonly op: BinaryOp;
  /** Contiguous; may be `a`. */
  readonly out: DevicePtr;
  /** Contiguous. */
  readonly a: DevicePtr;
  /** Rounded to float32 for floating types, towards zero for integers. */
  readonly scalar: number | bigint;
  readonly count: number;
  readonly dtype: DType;
}

/** out[i] = op(a[i], scalar); `rsub` and `rdiv` give scalar - a[i] and scalar / a[i]. Throws DTypeError. */
export function binaryScalar(stream: Stream, p: BinaryScalarArgs): void {
  const dtype = arithmeticType(p.op, p.dtype);
  if (p.count === 0) return;
  const width = 16 / p.dtype.bytes;
  const vector = p.count % width === 0 && p.out % 16n === 0n && p.a % 16n === 0n;
  const items = vector ? p.count / width : p.count;
  const strides = [vector ? width : 1];
  launch(
    stream,
    binaryKernel,
    { dtype },
    { grid: [gridStrideBlocks(stream.device, items, 256)], block: 256 },
    {
      out: p.out,
      a: p.a,
      b: nullPtr,
      items: BigInt(items),
      op: binaryOps[p.op],
      vector: vector ? 1 : 0,
      aKind: kinds.each,
      bKind: kinds.constant,
      floatConstant: Number(p.scalar),
      integerConstant: p.dtype.isFloat ? 0n : BigInt(typeof p.scalar === "bigint" ? p.scalar : Math.trunc(p.scalar)),
      rank: 1,
      shape: [items],
      aStrides: strides,
      bStrides: [0],
    },
  );
}

export interface UnaryArgs {
  readonly op: UnaryOp;
  /** Contiguous; may be `x`. */
  readonly out: DevicePtr;
  /** Contiguous. */
  readonly x: DevicePtr;
  readonly count: number;
  readonly dtype: DType;
}

/** out[i] = op(x[i]). Floating types; neg, abs and relu also int32 and int64. Throws DTypeError. */
export function unary(stream: Stream, p: UnaryArgs): void {
  const dtype = arithmeticType(p.op, p.dtype);
  if (p.count === 0) return;
  const vector = p.out % 16n === 0n && p.x % 16n === 0n;
  const items = vector ? Math.ceil((p.count * p.dtype.bytes) / 16) : p.count;
  launch(
    stream,
    unaryKernel,
    { dtype },
    { grid: [gridStrideBlocks(stream.device, items, 256)], block: 256 },
    { out: p.out, x: p.x, count: BigInt(p.count), op: unaryOps[p.op], vector: vector ? 1 : 0 },
  );
}
