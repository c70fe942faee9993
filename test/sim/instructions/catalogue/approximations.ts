/** Instructions whose results PTX bounds but does not fix. The bounds are those of the PTX ISA 9.1, except where said. */
import { elementwise, ulp } from "../bounds.ts";
import { type InstructionCase, simple } from "../case.ts";

interface Approximation {
  readonly op: string;
  readonly text: string;
  readonly exact: (...x: number[]) => number | undefined;
  readonly allowed: (exact: number, ...x: number[]) => number;
  readonly operands?: number;
}

const relative = (power: number) => (exact: number) => Math.abs(exact) * 2 ** power + 2 ** -149;
const ulps = (count: number) => (exact: number) => count * ulp(exact);
const angle = (of: (x: number) => number) => (x: number) =>
  Math.abs(x) <= 100 * Math.PI || !Number.isFinite(x) ? of(x) : undefined;
const angleError = (_: number, x = 0): number => (Math.abs(x) <= 2 * Math.PI ? 2 ** -20.5 : 2 ** -14.7);

const singles: readonly Approximation[] = [
  { op: "rcp.approx", text: "1 ulp", exact: (x) => 1 / x, allowed: ulps(1) },
  { op: "sqrt.approx", text: "2^-23 relative", exact: Math.sqrt, allowed: relative(-23) },
  { op: "rsqrt.approx", text: "2^-22.9 relative", exact: (x) => 1 / Math.sqrt(x), allowed: relative(-22.9) },
  { op: "ex2.approx", text: "2 ulp", exact: (x) => 2 ** x, allowed: ulps(2) },
  {
    op: "lg2.approx",
    text: "2^-22, absolute from 0.5 to 2, relative elsewhere",
    exact: Math.log2,
    allowed: (exact, x = 0) => (x > 0.5 && x < 2 ? 2 ** -22 : Math.abs(exact) * 2 ** -22),
  },
  {
    op: "sin.approx",
    text: "2^-20.5 absolute to 2 pi, 2^-14.7 to 100 pi",
    exact: angle(Math.sin),
    allowed: angleError,
  },
  {
    op: "cos.approx",
    text: "2^-20.5 absolute to 2 pi, 2^-14.7 to 100 pi",
    exact: angle(Math.cos),
    allowed: angleError,
  },
  {
    op: "div.approx",
    text: "2 ulp for divisors of 2^-126 to 2^126, then zero, or NaN of infinity",
    operands: 2,
    exact: (a, b = 0) => {
      const size = Math.abs(b);
      if (size > 2 ** 126 && Number.isFinite(b)) return Number.isFinite(a) ? 0 : Number.NaN;
      return size < 2 ** -126 && size > 0 ? undefined : a! / b;
    },
    allowed: ulps(2),
  },
  { op: "div.full", text: "2 ulp", operands: 2, exact: (a, b) => a! / b!, allowed: ulps(2) },
];

const f32 = singles.flatMap(({ op, text, exact, allowed, operands = 1 }) =>
  [false, true].map((flushes) =>
    simple(`${op}${flushes ? ".ftz" : ""}.f32`, operands === 1 ? ["argument"] : ["argument", "argument"], "f32", {
      bound: elementwise({ text, type: "f32", exact, allowed, flushes }),
    }),
  ),
);

const tanh = [
  simple("tanh.approx.f32", ["argument"], "f32", {
    capability: 75,
    bound: elementwise({ text: "2^-11 relative", type: "f32", exact: Math.tanh, allowed: relative(-11) }),
  }),
  ...(["f16", "f16x2"] as const).map((type) =>
    simple(`tanh.approx.${type}`, [type], type === "f16" ? "b16" : "b32", {
      capability: 75,
      bound: elementwise({
        text: "2^-10.987 absolute",
        type: "f16",
        parts: type === "f16" ? 1 : 2,
        exact: Math.tanh,
        allowed: () => 2 ** -10.987,
      }),
    }),
  ),
];

const ex2OfHalves = (["f16", "f16x2"] as const).map((type) =>
  simple(`ex2.approx.${type}`, [type], type === "f16" ? "b16" : "b32", {
    capability: 75,
    bound: elementwise({
      text: "2^-9.9 relative, or the least subnormal",
      type: "f16",
      parts: type === "f16" ? 1 : 2,
      exact: (x) => 2 ** x,
      allowed: (exact) => Math.max(exact * 2 ** -9.9, 2 ** -24),
    }),
  }),
);

/** PTX calls these gross and gives 20 bits of mantissa in and out; the bound is ours: two bits less. */
const f64 = [
  simple("rcp.approx.ftz.f64", ["f64"], "f64", {
    bound: elementwise({
      text: "2^-18 relative",
      type: "f64",
      exact: (x) => 1 / x,
      allowed: (exact) => Math.abs(exact) * 2 ** -18,
      flushes: true,
      operands: "f64Upper",
    }),
  }),
  simple("rsqrt.approx.ftz.f64", ["f64"], "f64", {
    bound: elementwise({
      text: "2^-18 relative",
      type: "f64",
      exact: (x) => 1 / Math.sqrt(x),
      allowed: (exact) => Math.abs(exact) * 2 ** -18,
      flushes: true,
      operands: "f64Upper",
    }),
  }),
];

export const approximateCases: readonly InstructionCase[] = [...f32, ...tanh, ...ex2OfHalves, ...f64];
