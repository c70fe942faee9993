import { Code } from "../wasm/code.ts";
import type { ImportedFunction } from "../wasm/module.ts";

/** What the compiled code calls in JavaScript. `site` numbers the instruction in the kernel's list. */
export const imports = [
  // The linear address of a global or generic address that is not in the device's own memory. Throws when there is none.
  { name: "resolve", parameters: ["i64", "i32", "i32", "i32"], result: "i32" },
  // An access outside of shared, local or parameter memory: throws.
  { name: "fault", parameters: ["i32", "i32", "i32"], result: undefined },
  // Only in code compiled with checks: an access about to happen (linear address, packAccess, site, lane).
  { name: "check", parameters: ["i32", "i32", "i32", "i32"], result: undefined },
  // Only with checks: cp.async groups (-1 to commit, else how many may stay under way; lane).
  { name: "copies", parameters: ["i32", "i32"], result: undefined },
  // Only with checks: all lanes of the running warp are about to do this collective instruction.
  { name: "meet", parameters: ["i32"], result: undefined },
  // Only in code compiled with flow, see FlowWatch: (area), (area), (fragment, lane), (site, lane), (site, lane), (bits).
  { name: "enter", parameters: ["i32"], result: undefined },
  { name: "leave", parameters: ["i32"], result: undefined },
  { name: "step", parameters: ["i32", "i32"], result: undefined },
  { name: "guarded", parameters: ["i32", "i32"], result: undefined },
  { name: "trace", parameters: ["i32", "i32"], result: "i32" },
  { name: "operand", parameters: ["i64"], result: undefined },
  { name: "trap", parameters: ["i32", "i32"], result: undefined },
  // Exact arithmetic in double, rounded as the last operand says: see run/float64.ts.
  { name: "fma64", parameters: ["f64", "f64", "f64", "i32"], result: "f64" },
  { name: "divide64", parameters: ["f64", "f64", "i32"], result: "f64" },
  { name: "root64", parameters: ["f64", "i32"], result: "f64" },
  { name: "lg2", parameters: ["f64"], result: "f64" },
  { name: "sin", parameters: ["f64"], result: "f64" },
  { name: "cos", parameters: ["f64"], result: "f64" },
  { name: "tanh", parameters: ["f64"], result: "f64" },
  { name: "clock", parameters: [], result: "i64" },
] as const satisfies readonly ImportedFunction[];

type ImportName = (typeof imports)[number]["name"];

/** Functions in WebAssembly that every kernel's module carries, in the order of their indices. */
const helperNames = [
  "oddAdd",
  "fma32",
  "toHalf",
  "fromHalf",
  "toBfloat",
  "roundDown",
  "demoteOdd",
  "ex2",
  "multiplyHigh",
  "chooseNaN",
  "toE4m3",
  "toE5m2",
] as const;
type HelperName = (typeof helperNames)[number];

/** The function index to call. */
export function functionIndex(name: ImportName | HelperName): number {
  const imported = imports.findIndex((i) => i.name === name);
  return imported >= 0 ? imported : imports.length + helperNames.indexOf(name as HelperName);
}

export function helperFunctions(): Code[] {
  const make: Record<HelperName, () => Code> = {
    oddAdd,
    fma32,
    toHalf,
    fromHalf,
    toBfloat,
    roundDown,
    demoteOdd,
    ex2,
    multiplyHigh,
    chooseNaN,
    toE4m3: () => toSmallFloat({ mantissa: 3, bias: 7, largest: 0x7e }),
    toE5m2: () => toSmallFloat({ mantissa: 2, bias: 15, largest: 0x7b }),
  };
  return helperNames.map((name) => make[name]());
}

/**
 * The sum of two doubles rounded to odd (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums"): exact, or
 * the neighbour whose last bit is set. Rounding that to at most 51 bits, in any mode, is as if the sum had been exact.
 */
function oddAdd(): Code {
  const c = new Code(["f64", "f64"], "f64");
  const [sum, part, error] = [c.local("f64"), c.local("f64"), c.local("f64")];
  const bits = c.local("i64");
  c.get(0).get(1).op("f64_add").tee(sum).get(0).op("f64_sub").set(part);
  c.get(0).get(sum).get(part).op("f64_sub", "f64_sub").get(1).get(part).op("f64_sub", "f64_add").set(error);
  c.get(sum).op("i64_reinterpret_f64").set(bits);
  // Exact, odd already, or not finite (the error is NaN then).
  c.get(error).f64Value(0).op("f64_lt").get(error).f64Value(0).op("f64_gt", "i32_or", "i32_eqz");
  c.get(bits).op("i32_wrap_i64").i32(1).op("i32_and", "i32_or").block("if").get(sum).op("return").end();
  c.get(bits).i64(1n).i64(-1n);
  c.get(error).f64Value(0).op("f64_gt").get(sum).f64Value(0).op("f64_gt", "i32_eq", "select", "i64_add");
  return c.op("f64_reinterpret_i64");
}

/**
 * a*b + c rounded once. The product of two floats is exact in double; that the sum is rounded there as well matters only
 * where it then lies halfway between two floats, or below the normal ones, whose halves lie elsewhere: then it is rounded to
 * odd.
 */
function fma32(): Code {
  const c = new Code(["f32", "f32", "f32"], "f32");
  const [product, sum] = [c.local("f64"), c.local("f64")];
  c.get(0).op("f64_promote_f32").get(1).op("f64_promote_f32", "f64_mul").tee(product);
  c.get(2).op("f64_promote_f32", "f64_add").tee(sum);
  // A float's last bit is the double's bit 29.
  c.op("i64_reinterpret_f64", "i32_wrap_i64").i32(0x1fffffff).op("i32_and").i32(0x10000000).op("i32_eq");
  c.get(sum)
    .op("f64_abs")
    .f64Value(2 ** -126)
    .op("f64_lt", "i32_or")
    .block("if");
  c.get(product).get(2).op("f64_promote_f32").call(functionIndex("oddAdd")).op("f32_demote_f64", "return").end();
  return c.get(sum).op("f32_demote_f64");
}

/** Float to half, to nearest even, NaN to 0x7fff. */
function toHalf(): Code {
  const c = new Code(["f32"], "i32");
  const [sign, magnitude] = [c.local("i32"), c.local("i32")];
  c.get(0).op("i32_reinterpret_f32").tee(magnitude).i32(16).op("i32_shr_u").i32(0x8000).op("i32_and").set(sign);
  c.get(magnitude).i32(0x7fffffff).op("i32_and").tee(magnitude).i32(0x7f800000).op("i32_gt_u");
  c.block("if").i32(0x7fff).op("return").end();
  // 65520 and more round to infinity.
  c.get(magnitude).i32(0x477ff000).op("i32_ge_u").block("if").get(sign).i32(0x7c00).op("i32_or", "return").end();
  // Below 2^-14: adding 0.5 rounds to multiples of 2^-24.
  c.get(magnitude).i32(0x38800000).op("i32_lt_u").block("if").get(sign);
  c.get(magnitude).op("f32_reinterpret_i32").f32(0x3f000000n).op("f32_add", "i32_reinterpret_f32");
  c.i32(0x3f000000).op("i32_sub", "i32_or", "return").end();
  c.get(sign).get(magnitude).get(magnitude).i32(13).op("i32_shr_u").i32(1).op("i32_and", "i32_add");
  return c
    .i32(0xfff - (112 << 23))
    .op("i32_add")
    .i32(13)
    .op("i32_shr_u", "i32_or");
}

/** Half to float; NaN keeps its sign and payload. */
function fromHalf(): Code {
  const c = new Code(["i32"], "f32");
  const magnitude = c.local("i32");
  c.get(0).i32(0x7fff).op("i32_and").tee(magnitude).i32(0x7c00).op("i32_ge_u").block("if", "f32");
  c.get(magnitude).i32(13).op("i32_shl").i32(0x7f800000).op("i32_or", "f32_reinterpret_i32").else();
  // The exponent is 112 too small; the product is exact, for subnormals as well.
  c.get(magnitude).i32(13).op("i32_shl", "f32_reinterpret_i32").f32(0x77800000n).op("f32_mul").end();
  return c.get(0).i32(16).op("i32_shl", "f32_reinterpret_i32", "f32_copysign");
}

/** Float to bfloat16, to nearest even, NaN to 0x7fff. */
function toBfloat(): Code {
  const c = new Code(["f32"], "i32");
  const bits = c.local("i32");
  c.get(0).get(0).op("f32_ne").block("if").i32(0x7fff).op("return").end();
  c.get(0).op("i32_reinterpret_f32").tee(bits).get(bits).i32(16).op("i32_shr_u").i32(1).op("i32_and", "i32_add");
  return c.i32(0x7fff).op("i32_add").i32(16).op("i32_shr_u");
}

/** Double to float, towards minus infinity. */
function roundDown(): Code {
  const c = new Code(["f64"], "f32");
  const rounded = c.local("f32");
  const bits = c.local("i32");
  c.get(0).op("f32_demote_f64").tee(rounded).op("f64_promote_f32").get(0).op("f64_gt", "i32_eqz");
  c.block("if").get(rounded).op("return").end();
  c.get(rounded).op("i32_reinterpret_f32").tee(bits).i32(0x7fffffff).op("i32_and", "i32_eqz");
  c.block("if").f32(0x80000001n).op("return").end();
  c.get(bits).i32(1).i32(-1).get(bits).i32(0).op("i32_lt_s", "select", "i32_add");
  return c.op("f32_reinterpret_i32");
}

/** Double to float, to odd: rounding the result to fewer bits is as if the double had been rounded directly. */
function demoteOdd(): Code {
  const c = new Code(["f64"], "f32");
  const rounded = c.local("f32");
  const wide = c.local("f64");
  const bits = c.local("i32");
  c.get(0).op("f32_demote_f64").tee(rounded).op("f64_promote_f32").tee(wide).get(0).op("f64_eq");
  c.get(0).get(0).op("f64_ne", "i32_or");
  c.get(rounded).op("i32_reinterpret_f32").tee(bits).i32(1).op("i32_and", "i32_or");
  c.block("if").get(rounded).op("return").end();
  c.get(bits).i32(1).i32(-1).get(0).op("f64_abs").get(wide).op("f64_abs", "f64_gt", "select", "i32_add");
  return c.op("f32_reinterpret_i32");
}

/** 2^x: a polynomial in double on [-1/2, 1/2], far inside the two units in the last place that PTX allows. */
function ex2(): Code {
  const c = new Code(["f32"], "f32");
  const [x, whole] = [c.local("f64"), c.local("f64")];
  c.get(0).get(0).op("f32_ne").block("if").f32(0x7fffffffn).op("return").end();
  c.get(0).op("f64_promote_f32").f64Value(-160).op("f64_max").f64Value(160).op("f64_min").tee(x);
  c.op("f64_nearest").set(whole).get(x).get(whole).op("f64_sub").set(x);
  let coefficient = 1;
  const coefficients = [1];
  for (let k = 1; k <= 10; k++) {
    coefficient *= Math.LN2 / k;
    coefficients.push(coefficient);
  }
  c.f64Value(coefficients[10]!);
  for (let k = 9; k >= 0; k--) c.get(x).op("f64_mul").f64Value(coefficients[k]!).op("f64_add");
  c.get(whole).saturate("i64_trunc_sat_f64_s").i64(1023n).op("i64_add").i64(52n).op("i64_shl", "f64_reinterpret_i64");
  return c.op("f64_mul", "f32_demote_f64");
}

/** The upper half of the product of two unsigned 64-bit numbers. */
function multiplyHigh(): Code {
  const c = new Code(["i64", "i64"], "i64");
  const [low, middle, cross] = [c.local("i64"), c.local("i64"), c.local("i64")];
  const mask = 0xffffffffn;
  const lower = (p: number) => c.get(p).i64(mask).op("i64_and");
  const upper = (p: number) => c.get(p).i64(32n).op("i64_shr_u");
  lower(0);
  lower(1).op("i64_mul").set(low);
  upper(0);
  lower(1).op("i64_mul").get(low).i64(32n).op("i64_shr_u", "i64_add").set(middle);
  lower(0);
  upper(1).op("i64_mul").get(middle).i64(mask).op("i64_and", "i64_add").set(cross);
  upper(0);
  upper(1).op("i64_mul").get(middle).i64(32n).op("i64_shr_u", "i64_add");
  return c.get(cross).i64(32n).op("i64_shr_u", "i64_add");
}

/** A result in double, (0); when that is NaN, the first of the operands (1), (2), (3) that is, quiet, or a new one. */
function chooseNaN(): Code {
  const c = new Code(["f64", "f64", "f64", "f64"], "f64");
  c.get(0).get(0).op("f64_eq").block("if").get(0).op("return").end();
  for (const operand of [1, 2, 3]) {
    c.get(operand).get(operand).op("f64_ne").block("if").get(operand).op("i64_reinterpret_f64");
    c.i64(1n << 51n)
      .op("i64_or", "f64_reinterpret_i64", "return")
      .end();
  }
  return c.f64(0xfff8000000000000n);
}

/** Float to 8 bits, to nearest even; what is larger than the largest number becomes that, and NaN 0x7f. */
function toSmallFloat({ mantissa, bias, largest }: { mantissa: number; bias: number; largest: number }): Code {
  const c = new Code(["f32"], "i32");
  const [bits, magnitude, code] = [c.local("i32"), c.local("i32"), c.local("i32")];
  const shift = 23 - mantissa;
  c.get(0).op("i32_reinterpret_f32").tee(bits).i32(0x7fffffff).op("i32_and").tee(magnitude).i32(0x7f800000);
  c.op("i32_gt_u").block("if").i32(0x7f).op("return").end();
  c.get(magnitude)
    .i32((128 - bias) << 23)
    .op("i32_lt_u")
    .block("if");
  // Subnormal: adding this power of two rounds to multiples of the least number.
  const exponent = 127 + 24 - bias - mantissa;
  c.get(magnitude)
    .op("f32_reinterpret_i32")
    .f32(BigInt(exponent) << 23n)
    .op("f32_add", "i32_reinterpret_f32")
    .i32(exponent << 23)
    .op("i32_sub")
    .set(code);
  c.else();
  c.get(magnitude)
    .get(magnitude)
    .i32(shift)
    .op("i32_shr_u")
    .i32(1)
    .op("i32_and", "i32_add")
    .i32((1 << (shift - 1)) - 1 - ((127 - bias) << 23))
    .op("i32_add")
    .i32(shift)
    .op("i32_shr_u")
    .set(code);
  c.end();
  c.get(code).i32(largest).get(code).i32(largest).op("i32_lt_u", "select");
  return c.get(bits).i32(24).op("i32_shr_u").i32(0x80).op("i32_and", "i32_or");
}
