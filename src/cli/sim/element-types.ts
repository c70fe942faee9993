import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16 } from "../../base/float.ts";

/** An element of a buffer, or a scalar argument, as PTX names it. All are little-endian. */
export interface ElementType {
  readonly name: string;
  readonly bytes: number;
  readonly isFloat: boolean;
  /** NumPy's name; undefined where it has none (bf16). */
  readonly npy: string | undefined;
  /** The largest and least whole number; undefined for floats. */
  readonly range: readonly [least: bigint, largest: bigint] | undefined;
  read(view: DataView, at: number): number | bigint;
  write(view: DataView, at: number, value: number | bigint): void;
}

function float(
  name: string,
  bytes: number,
  npy: string | undefined,
  read: (view: DataView, at: number) => number,
  write: (view: DataView, at: number, value: number) => void,
): ElementType {
  const widen = (value: number | bigint) => Number(value);
  return {
    name,
    bytes,
    isFloat: true,
    npy,
    range: undefined,
    read,
    write: (view, at, value) => write(view, at, widen(value)),
  };
}

function whole(bytes: 1 | 2 | 4 | 8, signed: boolean): ElementType {
  const bits = 8 * bytes;
  const range: [bigint, bigint] = signed
    ? [-(1n << BigInt(bits - 1)), (1n << BigInt(bits - 1)) - 1n]
    : [0n, (1n << BigInt(bits)) - 1n];
  const read = (view: DataView, at: number): bigint => {
    let value = 0n;
    for (let i = bytes - 1; i >= 0; i--) value = (value << 8n) | BigInt(view.getUint8(at + i));
    return signed ? BigInt.asIntN(bits, value) : value;
  };
  const write = (view: DataView, at: number, value: number | bigint): void => {
    let rest = BigInt.asUintN(bits, BigInt(value));
    for (let i = 0; i < bytes; i++) {
      view.setUint8(at + i, Number(rest & 255n));
      rest >>= 8n;
    }
  };
  const kind = signed ? "i" : "u";
  const npy = bytes === 1 ? `|${kind}1` : `<${kind}${bytes}`;
  return { name: `${kind}${bits}`, bytes, isFloat: false, npy, range, read, write };
}

const sizes = [1, 2, 4, 8] as const;

const types: readonly ElementType[] = [
  float(
    "f16",
    2,
    "<f2",
    (view, at) => f16ToNumber(view.getUint16(at, true)),
    (view, at, value) => view.setUint16(at, numberToF16(value), true),
  ),
  float(
    "bf16",
    2,
    undefined,
    (view, at) => bf16ToNumber(view.getUint16(at, true)),
    (view, at, value) => view.setUint16(at, numberToBf16(value), true),
  ),
  float(
    "f32",
    4,
    "<f4",
    (view, at) => view.getFloat32(at, true),
    (view, at, value) => view.setFloat32(at, value, true),
  ),
  float(
    "f64",
    8,
    "<f8",
    (view, at) => view.getFloat64(at, true),
    (view, at, value) => view.setFloat64(at, value, true),
  ),
  ...sizes.map((bytes) => whole(bytes, true)),
  ...sizes.map((bytes) => whole(bytes, false)),
];

/** By name: `f32`; PTX's `s32` is `i32`, its `b32` is `u32`. */
export function elementType(name: string): ElementType | undefined {
  const own = name.replace(/^s(?=\d)/, "i").replace(/^b(?=\d)/, "u");
  return types.find((type) => type.name === own);
}

export function npyElementType(descr: string): ElementType | undefined {
  const own = descr === "|b1" ? "|u1" : descr.replace(/^[<|](?=[iu]1$)/, "|");
  return types.find((type) => type.npy === own);
}

export const elementTypeNames: string = types.map((type) => type.name).join(", ");

/** An element as the shortest text that gives it again. */
export function formatElement(type: ElementType, value: number | bigint): string {
  if (typeof value === "bigint" || !Number.isFinite(value)) return String(value);
  const probe = new DataView(new ArrayBuffer(8));
  for (let digits = 1; digits <= 17; digits++) {
    const short = Number(value.toPrecision(digits));
    type.write(probe, 0, short);
    if (type.read(probe, 0) === value) return Object.is(value, -0) ? "-0" : String(short);
  }
  return String(value);
}
