/** Floating-point arithmetic by whole numbers: the independent reference of instruction tests. */

interface Format {
  readonly bits: number;
  readonly mantissa: number;
}

export const formats = {
  f32: { bits: 32, mantissa: 23 },
  f64: { bits: 64, mantissa: 52 },
  f16: { bits: 16, mantissa: 10 },
  bf16: { bits: 16, mantissa: 7 },
} as const satisfies Record<string, Format>;

export type Rounding = "rn" | "rz" | "rm" | "rp";
/** A finite value m * 2^e with its sign, which zero has too; or what is not finite. */
export type Exact =
  | { readonly m: bigint; readonly e: number; readonly negative: boolean }
  | "nan"
  | "infinity"
  | "-infinity";

export function decode({ bits, mantissa }: Format, pattern: bigint): Exact {
  const exponentBits = bits - 1 - mantissa;
  const fraction = pattern & ((1n << BigInt(mantissa)) - 1n);
  const field = Number((pattern >> BigInt(mantissa)) & ((1n << BigInt(exponentBits)) - 1n));
  const negative = pattern >> BigInt(bits - 1) === 1n;
  const top = 2 ** exponentBits - 1;
  if (field === top) return fraction ? "nan" : negative ? "-infinity" : "infinity";
  const bias = 2 ** (exponentBits - 1) - 1;
  const m = field === 0 ? fraction : fraction | (1n << BigInt(mantissa));
  return { m, e: Math.max(field, 1) - bias - mantissa, negative };
}

/** Undefined for NaN. */
export function encode({ bits, mantissa }: Format, value: Exact, mode: Rounding): bigint | undefined {
  if (value === "nan") return undefined;
  const exponentBits = bits - 1 - mantissa;
  const top = 2 ** exponentBits - 1;
  const bias = 2 ** (exponentBits - 1) - 1;
  const infinity = BigInt(top) << BigInt(mantissa);
  const negative = value === "-infinity" || (typeof value === "object" && value.negative);
  const sign = negative ? 1n << BigInt(bits - 1) : 0n;
  if (typeof value === "string") return sign | infinity;
  let { m, e } = value;
  if (m === 0n) return sign;
  const lowest = 1 - bias - mantissa;
  const drop = Math.max(m.toString(2).length - (mantissa + 1), lowest - e);
  if (drop > 0) {
    const shift = BigInt(drop);
    const rest = m & ((1n << shift) - 1n);
    const half = 1n << (shift - 1n);
    m >>= shift;
    e += drop;
    const up =
      mode === "rn"
        ? rest > half || (rest === half && m % 2n === 1n)
        : mode !== "rz" && rest > 0n && negative === (mode === "rm");
    if (up) m += 1n;
  } else {
    m <<= BigInt(-drop);
    e += drop;
  }
  if (m >> BigInt(mantissa + 1)) {
    m >>= 1n;
    e++;
  }
  const field = m >> BigInt(mantissa) ? e + bias + mantissa : 0;
  if (field >= top) {
    const toInfinity = mode === "rn" || (mode === "rm" && negative) || (mode === "rp" && !negative);
    return sign | (toInfinity ? infinity : infinity - 1n);
  }
  return sign | (BigInt(field) << BigInt(mantissa)) | (m & ((1n << BigInt(mantissa)) - 1n));
}

const isInfinite = (x: Exact): x is "infinity" | "-infinity" => x === "infinity" || x === "-infinity";
const isNegative = (x: Exact): boolean => (typeof x === "object" ? x.negative : x === "-infinity");

export function multiply(a: Exact, b: Exact): Exact {
  if (a === "nan" || b === "nan") return "nan";
  const negative = isNegative(a) !== isNegative(b);
  if (isInfinite(a) || isInfinite(b)) {
    const isZero = (x: Exact) => typeof x === "object" && x.m === 0n;
    if (isZero(a) || isZero(b)) return "nan";
    return negative ? "-infinity" : "infinity";
  }
  return { m: a.m * b.m, e: a.e + b.e, negative };
}

export function add(a: Exact, b: Exact, mode: Rounding): Exact {
  if (a === "nan" || b === "nan") return "nan";
  if (isInfinite(a)) return isInfinite(b) && a !== b ? "nan" : a;
  if (isInfinite(b)) return b;
  const e = Math.min(a.e, b.e);
  const signed = (x: typeof a) => (x.negative ? -x.m : x.m) << BigInt(x.e - e);
  const sum = signed(a) + signed(b);
  // The sum of opposite zeros, or of numbers that cancel, is -0 only when rounding down.
  const negative =
    sum === 0n ? (a.negative === b.negative && a.m === 0n && b.m === 0n ? a.negative : mode === "rm") : sum < 0n;
  return { m: sum < 0n ? -sum : sum, e, negative };
}

export function negate(a: Exact): Exact {
  if (typeof a === "object") return { ...a, negative: !a.negative };
  return a === "nan" ? a : a === "infinity" ? "-infinity" : "infinity";
}
