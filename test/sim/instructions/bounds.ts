import { f16ToNumber } from "../../../src/base/float.ts";
import type { Bound } from "./case.ts";

/** Values of a type in an array of bytes. */
export type Reader = (bytes: Uint8Array, i: number) => number;

function reader(width: number, read: (view: DataView, at: number) => number): Reader {
  return (bytes, i) => read(new DataView(bytes.buffer, bytes.byteOffset), width * i);
}

export const readers = {
  f32: reader(4, (view, at) => view.getFloat32(at, true)),
  f64: reader(8, (view, at) => view.getFloat64(at, true)),
  /** Without the lower word: may be infinity where the whole is NaN. */
  f64Upper: reader(8, (view, at) => {
    const upper = new DataView(new ArrayBuffer(8));
    upper.setUint32(0, view.getUint32(at + 4, true));
    return upper.getFloat64(0);
  }),
  f16: reader(2, (view, at) => f16ToNumber(view.getUint16(at, true))),
} as const;

/** The distance between neighbouring floats at x: of f32, or with as many bits of mantissa and least exponent. */
export function ulp(x: number, mantissa = 23, lowest = -126): number {
  const magnitude = Math.abs(x);
  const exponent = magnitude === 0 ? lowest : Math.max(lowest, Math.floor(Math.log2(magnitude)));
  return 2 ** (exponent - mantissa);
}

interface Elementwise {
  readonly text: string;
  readonly type: "f32" | "f64" | "f16";
  /** Values in a row of memory: 2 for packed halves. */
  readonly parts?: number;
  /** The exact result; undefined where PTX says nothing about it. */
  readonly exact: (...x: number[]) => number | undefined;
  /** How far the result may be off. */
  readonly allowed: (exact: number, ...x: number[]) => number;
  readonly flushes?: boolean;
  /** How operands are read, if not as results are. */
  readonly operands?: keyof typeof readers;
}

const largest = { f32: 3.4028234663852886e38, f64: Number.MAX_VALUE, f16: 65504 };
const smallestNormal = { f32: 2 ** -126, f64: 2 ** -1022, f16: 2 ** -14 };

/** A bound on each result by itself. */
export function elementwise({
  text,
  type,
  parts = 1,
  exact,
  allowed,
  flushes = false,
  operands = type,
}: Elementwise): Bound {
  const read = readers[type];
  const small = smallestNormal[type];
  const flush = (x: number): number => (flushes && Math.abs(x) < small ? (x < 0 || Object.is(x, -0) ? -0 : 0) : x);
  return {
    text,
    fault: (inputs, outputs, rows) => {
      for (let i = 0; i < rows * parts; i++) {
        const x = inputs.map((input) => flush(readers[operands](input, i)));
        const want = exact(...x);
        if (want === undefined) continue;
        const found = read(outputs[0]!, i);
        const tolerance = allowed(want, ...x) + (flushes && Math.abs(want) < 2 * small ? small : 0);
        // The largest float and infinity are neighbours for a result close to either.
        const clamped = (v: number) => Math.max(-2 * largest[type], Math.min(2 * largest[type], v));
        const close = Number.isNaN(want)
          ? Number.isNaN(found)
          : Math.abs(want) > largest[type]
            ? Math.abs(found) >= largest[type] && Math.sign(found) === Math.sign(want)
            : want === found || Math.abs(clamped(found) - want) <= tolerance;
        if (!close) return `f(${x.join(", ")}) is ${found}, exactly ${want}, allowed ${text}`;
      }
      return undefined;
    },
  };
}
