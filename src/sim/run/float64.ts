/** Arithmetic on doubles with every rounding, by whole numbers of any size: rare enough to be slow. */

const view = new DataView(new ArrayBuffer(8));

/** As compile/rounding.ts numbers them: to nearest even, towards zero, down, up. */
type Mode = 0 | 1 | 2 | 3;

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

/** mantissa * 2^exponent, not zero, rounded. The mantissa's last bit may stand for any that are left out below it. */
function compose(mantissa: bigint, exponent: number, mode: Mode): number {
  const negative = mantissa < 0n;
  let m = negative ? -mantissa : mantissa;
  let e = exponent;
  const away = (mode === 2 && negative) || (mode === 3 && !negative);
  // Subnormals keep multiples of 2^-1074.
  const drop = Math.max(bitLength(m) - 53, -1074 - e);
  if (drop > 0) {
    const shift = BigInt(drop);
    const rest = m & ((1n << shift) - 1n);
    const half = 1n << (shift - 1n);
    m >>= shift;
    const up = mode === 0 ? rest > half || (rest === half && (m & 1n) === 1n) : away && rest > 0n;
    if (up) m += 1n;
    e += drop;
  }
  // At most 2^53, exactly a double; scaled in two steps so that neither power overflows.
  const value = Number(m);
  const half = Math.trunc(e / 2);
  const scaled = value * 2 ** half * 2 ** (e - half);
  const limited = scaled === Number.POSITIVE_INFINITY && mode !== 0 && !away ? Number.MAX_VALUE : scaled;
  return negative ? -limited : limited;
}

/** a*b + c of doubles, rounded once. */
export function fma64(a: number, b: number, c: number, mode: Mode): number {
  if (!Number.isFinite(a) || !Number.isFinite(b)) return a * b + c;
  if (!Number.isFinite(c)) return c;
  const [x, y, z] = [split(a), split(b), split(c)];
  const exponent = x.exponent + y.exponent;
  const lowest = Math.min(exponent, z.exponent);
  const sum = ((x.mantissa * y.mantissa) << BigInt(exponent - lowest)) + (z.mantissa << BigInt(z.exponent - lowest));
  if (sum !== 0n) return compose(sum, lowest, mode);
  // An exact zero is -0 of two negative zeros, and of what cancels when rounding down.
  const negativeProduct = Object.is(Math.sign(a) * Math.sign(b), -0) || a * b < 0 || Object.is(a * b, -0);
  const negativeAddend = c < 0 || Object.is(c, -0);
  if (negativeProduct === negativeAddend) return negativeAddend ? -0 : 0;
  return mode === 2 ? -0 : 0;
}

/** a/b of doubles. */
export function divide64(a: number, b: number, mode: Mode): number {
  if (!Number.isFinite(a) || !Number.isFinite(b) || a === 0 || b === 0) return a / b;
  const [x, y] = [split(a), split(b)];
  const negative = x.mantissa < 0n !== y.mantissa < 0n;
  const [dividend, divisor] = [x.mantissa < 0n ? -x.mantissa : x.mantissa, y.mantissa < 0n ? -y.mantissa : y.mantissa];
  // At least 64 bits of quotient, and one that says whether there is more.
  const shift = 64 + bitLength(divisor);
  const scaled = dividend << BigInt(shift);
  const quotient = ((scaled / divisor) << 1n) | (scaled % divisor === 0n ? 0n : 1n);
  return compose(negative ? -quotient : quotient, x.exponent - y.exponent - shift - 1, mode);
}

/** The square root of a double. */
export function root64(a: number, mode: Mode): number {
  if (!(a > 0) || !Number.isFinite(a)) return Math.sqrt(a);
  const { mantissa, exponent } = split(a);
  const shift = 140 + (exponent & 1);
  const scaled = mantissa << BigInt(shift);
  const root = wholeRoot(scaled);
  const sticky = root * root === scaled ? 0n : 1n;
  return compose((root << 1n) | sticky, (exponent - shift) / 2 - 1, mode);
}

/** The largest whole number whose square is not above x: Newton's method from above. */
function wholeRoot(x: bigint): bigint {
  let root = 1n << BigInt(Math.ceil(bitLength(x) / 2));
  for (;;) {
    const next = (root + x / root) >> 1n;
    if (next >= root) return root;
    root = next;
  }
}
