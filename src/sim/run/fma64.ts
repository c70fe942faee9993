const view = new DataView(new ArrayBuffer(8));

/** A finite double as whole number times a power of two. */
function split(x: number): { mantissa: bigint; exponent: number } {
  view.setFloat64(0, x);
  const bits = view.getBigUint64(0);
  const field = Number((bits >> 52n) & 0x7ffn);
  const fraction = bits & 0xfffffffffffffn;
  const mantissa = field === 0 ? fraction : fraction | (1n << 52n);
  return { mantissa: bits >> 63n ? -mantissa : mantissa, exponent: (field === 0 ? 1 : field) - 1075 };
}

function bitLength(x: bigint): number {
  return x.toString(2).length;
}

/** mantissa * 2^exponent rounded to nearest even. */
function compose(mantissa: bigint, exponent: number): number {
  const negative = mantissa < 0n;
  let m = negative ? -mantissa : mantissa;
  let e = exponent;
  // Subnormals keep multiples of 2^-1074.
  const drop = Math.max(bitLength(m) - 53, -1074 - e);
  if (drop > 0) {
    const shift = BigInt(drop);
    const rest = m & ((1n << shift) - 1n);
    const half = 1n << (shift - 1n);
    m >>= shift;
    if (rest > half || (rest === half && (m & 1n) === 1n)) m += 1n;
    e += drop;
  }
  // At most 2^53, exactly a double; scaled in two steps so that neither power overflows.
  const value = Number(m);
  const half = Math.trunc(e / 2);
  const scaled = value * 2 ** half * 2 ** (e - half);
  return negative ? -scaled : scaled;
}

/** a*b + c of doubles, rounded once. */
export function fma64(a: number, b: number, c: number): number {
  const product = a * b;
  if (!Number.isFinite(a) || !Number.isFinite(b) || !Number.isFinite(c) || a === 0 || b === 0) return product + c;
  if (c === 0 && product !== 0 && Math.abs(product) > 2 ** -1022) return product;
  const [x, y, z] = [split(a), split(b), split(c)];
  const exponent = x.exponent + y.exponent;
  const lowest = Math.min(exponent, z.exponent);
  const sum = ((x.mantissa * y.mantissa) << BigInt(exponent - lowest)) + (z.mantissa << BigInt(z.exponent - lowest));
  // An exact zero of two summands that are not both negative is +0.
  if (sum === 0n) return 0;
  return compose(sum, lowest);
}
