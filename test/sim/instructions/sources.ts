/** Where operands are drawn from: corner cases and random distributions by the type of a register. */
import { random } from "../../support/numerics.ts";

type Register = "b16" | "b32" | "b64" | "f32" | "f64" | "pred";

export interface SourceRow {
  readonly register: Register;
  readonly corners: readonly bigint[];
  readonly draw: (next: Draw) => bigint;
}

/** Random bits. */
export class Draw {
  readonly unit: () => number;

  constructor(seed: number) {
    this.unit = random(seed);
  }

  below(n: number): number {
    return Math.floor(this.unit() * n);
  }

  bits(n: number): bigint {
    let value = 0n;
    for (let have = 0; have < n; have += 32) value = (value << 32n) | BigInt(this.below(2 ** 32));
    return BigInt.asUintN(n, value);
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }

  /**
   * Nearly standard normal: twelve uniform numbers less their mean, and one that fills the last bits. Sums only, since JavaScript
   * engines differ in the last bits of logarithms and cosines, and operands have to be the same in all of them.
   */
  normal(): number {
    let sum = this.unit() * 2 ** -30 - 6;
    for (let i = 0; i < 12; i++) sum += this.unit();
    return sum;
  }
}

function integers(bits: number, register: Register): SourceRow {
  const small = [0n, 1n, 2n, 3n, 7n, 8n, 15n, 16n, 31n, 32n, 33n, 63n, 64n, 255n, 256n];
  const edges = [8, 16, 24, 32, 64]
    .filter((b) => b <= bits)
    .flatMap((b) => [1n << BigInt(b - 1), (1n << BigInt(b)) - 1n]);
  const around = edges.flatMap((e) => [e - 1n, e, e + 1n, -e]);
  const corners = new Set([...small, ...around, 0x12345678n].map((v) => BigInt.asUintN(bits, v)));
  return {
    register,
    corners: [...corners],
    draw: (next) => {
      const kind = next.below(4);
      if (kind === 0) return BigInt.asUintN(bits, BigInt(next.below(64) - 32));
      // Of every length, so that products and quotients are.
      if (kind === 1) return next.bits(bits) >> BigInt(next.below(bits));
      return next.bits(bits);
    },
  };
}

interface Format {
  readonly bits: number;
  readonly mantissa: number;
}

/** Float formats by the name of their type. */
const floatFormats = {
  f32: { bits: 32, mantissa: 23 },
  f64: { bits: 64, mantissa: 52 },
  f16: { bits: 16, mantissa: 10 },
  bf16: { bits: 16, mantissa: 7 },
} as const satisfies Record<string, Format>;

function floats({ bits, mantissa }: Format, register: Register): SourceRow {
  const exponentBits = bits - 1 - mantissa;
  const bias = 2 ** (exponentBits - 1) - 1;
  const m = BigInt(mantissa);
  const of = (exponent: number, fraction = 0n): bigint => (BigInt(exponent + bias) << m) | fraction;
  const last = (1n << m) - 1n;
  const infinity = BigInt(2 * bias + 1) << m;
  const magnitudes = [
    0n,
    1n,
    2n,
    last,
    last + 1n,
    last + 2n,
    of(0),
    of(0, 1n),
    of(-1, last),
    of(-1),
    of(0, 1n << (m - 1n)),
    of(1),
    of(1, 1n << (m - 1n)),
    of(Math.min(mantissa, bias)),
    infinity - 1n,
    infinity,
    // A quiet NaN with a payload, and a signaling one.
    infinity | (1n << (m - 1n)) | 5n,
    infinity | 3n,
  ];
  // Where conversions to integers overflow.
  for (const power of [7, 8, 15, 16, 31, 32, 63, 64]) if (power <= bias) magnitudes.push(of(power), of(power) - 1n);
  const sign = 1n << BigInt(bits - 1);
  const narrower = [23, 10, 7, 3, 2].filter((n) => n < mantissa);
  return {
    register,
    corners: magnitudes.flatMap((v) => [v, v | sign]),
    draw: (next) => {
      const signBit = next.below(2) === 0 ? sign : 0n;
      const fraction = next.bits(mantissa);
      const kind = next.below(8);
      if (kind < 2) return next.bits(bits);
      // Of like size: sums cancel, results round.
      if (kind < 4) return signBit | of(next.below(5) - 2, fraction);
      // Multiples of a half, for conversions to whole numbers.
      if (kind === 4) {
        const exponent = Math.min(next.below(mantissa), bias);
        return (
          signBit |
          of(
            exponent,
            BigInt.asUintN(
              mantissa,
              (fraction >> BigInt(mantissa - 1 - exponent)) << BigInt(Math.max(0, mantissa - 1 - exponent)),
            ),
          )
        );
      }
      // Just at, above and below halfway between values of a narrower format.
      if (kind === 5 && narrower.length > 0) {
        const drop = BigInt(mantissa - next.pick(narrower));
        const half = ((fraction >> drop) << drop) | (1n << (drop - 1n));
        return (
          signBit |
          of(next.below(Math.min(2 * bias - 2, 56)) - Math.min(bias - 1, 28), half + BigInt(next.below(3) - 1))
        );
      }
      // Near the ends of the range.
      if (kind === 6) return signBit | (BigInt(next.below(4)) << m) | fraction;
      return signBit | of(bias - next.below(4), fraction);
    },
  };
}

/** Two of a 16-bit source in one register. */
function pair(of: SourceRow): SourceRow {
  return {
    register: "b32",
    corners: [],
    draw: (next) => {
      const one = () => (next.below(3) === 0 ? next.pick(of.corners) : of.draw(next));
      return (one() << 16n) | one();
    },
  };
}

function drawn(register: Register, draw: (next: Draw) => bigint): SourceRow {
  return { register, corners: [], draw };
}

const view = new DataView(new ArrayBuffer(8));
const f32Bits = (x: number): bigint => {
  view.setFloat32(0, x);
  return BigInt(view.getUint32(0));
};
const f64Bits = (x: number): bigint => {
  view.setFloat64(0, x);
  return view.getBigUint64(0);
};

/** A small whole number in a float format, given by its mantissa bits; now and then infinity or NaN. */
function smallInteger({ bits, mantissa }: Format, next: Draw): bigint {
  const exponentBits = bits - 1 - mantissa;
  const sign = BigInt(next.below(2)) << BigInt(bits - 1);
  const infinity = ((1n << BigInt(exponentBits)) - 1n) << BigInt(mantissa);
  if (next.below(150) === 0) return sign | infinity | BigInt(next.below(2));
  const n = next.below(5);
  if (n === 0) return sign;
  const exponent = 31 - Math.clz32(n);
  const bias = 2 ** (exponentBits - 1) - 1;
  return (
    sign | (BigInt(exponent + bias) << BigInt(mantissa)) | (BigInt(n - (1 << exponent)) << BigInt(mantissa - exponent))
  );
}

/** A normal number in a format of less than 24 bits of mantissa, cut off. */
function normalIn({ bits, mantissa }: Format, next: Draw): bigint {
  const exponentBits = bits - 1 - mantissa;
  const wide = f32Bits(next.normal());
  const exponent = Number((wide >> 23n) & 255n) - 127 + 2 ** (exponentBits - 1) - 1;
  const sign = (wide >> 31n) << BigInt(bits - 1);
  if (exponent <= 0) return sign;
  return sign | (BigInt(exponent) << BigInt(mantissa)) | ((wide & 0x7fffffn) >> BigInt(23 - mantissa));
}

function packed(count: number, bits: number, one: (next: Draw) => bigint): SourceRow {
  return drawn("b32", (next) => {
    let word = 0n;
    for (let i = 0; i < count; i++) word |= one(next) << BigInt(bits * i);
    return word;
  });
}

const { f32, f64, f16, bf16 } = floatFormats;
const e4m3 = { bits: 8, mantissa: 3 };
const e5m2 = { bits: 8, mantissa: 2 };
/** e4m3 has no infinity: its NaN is all ones. */
const smallE4m3 = (next: Draw): bigint => {
  const value = smallInteger(e4m3, next);
  return (value & 0x78n) === 0x78n ? value | 0x7fn : value;
};

export const sources = {
  u16: integers(16, "b16"),
  u32: integers(32, "b32"),
  u64: integers(64, "b64"),
  f32: floats(f32, "f32"),
  f64: floats(f64, "f64"),
  f16: floats(f16, "b16"),
  bf16: floats(bf16, "b16"),
  f16x2: pair(floats(f16, "b16")),
  bf16x2: pair(floats(bf16, "b16")),
  /** Every pair of bytes in turn is likely. */
  e8x2: drawn("b16", (next) => next.bits(16)),
  pred: drawn("pred", (next) => next.bits(1)),
  /** Shift amounts, positions and lengths: about the width, and far beyond it. */
  amount: {
    register: "b32",
    corners: [0n, 1n, 31n, 32n, 33n, 63n, 64n, 65n, 127n, 128n, 255n, 256n, 0x100000000n - 1n, 0x80000000n],
    draw: (next) => BigInt(next.below(72)),
  },
  /** Few different values, so that lanes of a warp match. */
  few32: drawn("b32", (next) => BigInt(next.below(3))),
  few64: drawn("b64", (next) => BigInt(next.below(2)) << 40n),
  lane: drawn("b32", (next) => BigInt(next.below(32))),
  bits32: drawn("b32", (next) => next.bits(32)),
  /** Arguments of approximate functions: over the range where their results are interesting. */
  argument: {
    register: "f32",
    corners: floats(f32, "f32").corners,
    draw: (next) =>
      f32Bits(
        next.below(2) === 0
          ? next.normal() * 2 ** (next.below(12) - 4)
          : (1 + next.unit()) * 2 ** (next.below(256) - 128),
      ),
  },
  /** Sums of these do not depend on the order: whole numbers. */
  wholeF32: drawn("f32", (next) => f32Bits(next.below(2001) - 1000)),
  wholeF64: drawn("f64", (next) => f64Bits(next.below(2001) - 1000)),
  normalF32: drawn("f32", (next) => f32Bits(next.normal())),
  normalF64: drawn("f64", (next) => f64Bits(next.normal())),
  normalTf32: drawn("b32", (next) => f32Bits(next.normal())),
  normalF16x2: packed(2, 16, (next) => normalIn(f16, next)),
  normalBf16x2: packed(2, 16, (next) => normalIn(bf16, next)),
  normalE4m3x4: packed(4, 8, (next) => normalIn(e4m3, next)),
  normalE5m2x4: packed(4, 8, (next) => normalIn(e5m2, next)),
  /** Halves near the least that there are, most of them subnormal. */
  tinyF16x2: packed(2, 16, (next) => (BigInt(next.below(2)) << 15n) | BigInt(next.below(0x1000))),
  zeroF32: drawn("f32", () => 0n),
  smallF32: drawn("f32", (next) => smallInteger(f32, next)),
  smallTf32: drawn("b32", (next) => smallInteger(f32, next)),
  smallF16x2: packed(2, 16, (next) => smallInteger(f16, next)),
  smallBf16x2: packed(2, 16, (next) => smallInteger(bf16, next)),
  smallE4m3x4: packed(4, 8, smallE4m3),
  smallE5m2x4: packed(4, 8, (next) => smallInteger(e5m2, next)),
} as const satisfies Record<string, SourceRow>;

export type Source = keyof typeof sources;

export function sourceRegister(source: Source): Register {
  return sources[source].register;
}

/** Bytes of a value in memory; predicates are 32-bit words. */
export function registerBytes(register: string): number {
  return register === "pred" ? 4 : Number(register.slice(1)) / 8;
}
