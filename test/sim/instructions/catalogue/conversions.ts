/** cvt between all types, in all modes. */
import { type InstructionCase, type Result, simple, snippet } from "../case.ts";
import type { Source } from "../sources.ts";

const integerTypes = [8, 16, 32, 64].flatMap((bits) => [`u${bits}`, `s${bits}`]);
const roundings = ["rn", "rz", "rm", "rp"];
const wholeRoundings = ["rni", "rzi", "rmi", "rpi"];
const bitsOf = (type: string): number => Number(type.slice(1));
/** Values of 8 bits come and go in 32-bit registers, whose upper bits an instruction must not take for theirs. */
const source = (type: string): Source => (bitsOf(type) === 8 ? "u32" : (`u${bitsOf(type)}` as Source));
const result = (type: string): Result => (bitsOf(type) === 8 ? "b32" : (`b${bitsOf(type)}` as Result));

const betweenIntegers = integerTypes.flatMap((to) =>
  integerTypes.flatMap((from) => [
    simple(`cvt.${to}.${from}`, [source(from)], result(to)),
    ...(saturates(to, from) ? [simple(`cvt.sat.${to}.${from}`, [source(from)], result(to))] : []),
  ]),
);

/** `.sat` is allowed where the source has values that the destination has not. */
function saturates(to: string, from: string): boolean {
  const [toBits, fromBits] = [bitsOf(to), bitsOf(from)];
  if (to[0] === from[0]) return fromBits > toBits;
  return to[0] === "u" || fromBits >= toBits;
}

const floatTypes = ["f16", "f32", "f64"] as const;
const floatResult = { f16: "b16", f32: "f32", f64: "f64" } as const;

const integersToFloats = floatTypes.flatMap((to) =>
  integerTypes.flatMap((from) =>
    roundings.map((mode) => simple(`cvt.${mode}.${to}.${from}`, [source(from)], floatResult[to])),
  ),
);
const saturatedFloats = ["u8", "s16", "s32", "u64"].map((from) =>
  simple(`cvt.rn.sat.f32.${from}`, [source(from)], "f32"),
);

const floatsToIntegers = floatTypes.flatMap((from) =>
  integerTypes.flatMap((to) =>
    wholeRoundings.flatMap((mode) => [
      simple(`cvt.${mode}.${to}.${from}`, [from], result(to)),
      ...(from === "f32" ? [simple(`cvt.${mode}.ftz.${to}.f32`, ["f32"], result(to))] : []),
    ]),
  ),
);

const toWhole = floatTypes.flatMap((type) =>
  wholeRoundings.flatMap((mode) => [
    simple(`cvt.${mode}.${type}.${type}`, [type], floatResult[type]),
    ...(type === "f32" ? ["ftz", "sat", "ftz.sat"].map((m) => simple(`cvt.${mode}.${m}.f32.f32`, ["f32"], "f32")) : []),
  ]),
);

const narrowing = roundings.flatMap((mode) => [
  ...["", ".ftz", ".sat"].map((m) => simple(`cvt.${mode}${m}.f32.f64`, ["f64"], "f32")),
  ...["", ".ftz", ".sat"].map((m) => simple(`cvt.${mode}${m}.f16.f32`, ["f32"], "b16")),
  simple(`cvt.${mode}.f16.f64`, ["f64"], "b16"),
]);

const widening = [
  ...["", ".ftz", ".sat"].map((m) => simple(`cvt${m}.f64.f32`, ["f32"], "f64")),
  ...["", ".ftz", ".sat"].map((m) => simple(`cvt${m}.f32.f16`, ["f16"], "f32")),
  simple("cvt.f64.f16", ["f16"], "f64"),
  ...["ftz", "sat", "ftz.sat"].map((m) => simple(`cvt.${m}.f32.f32`, ["f32"], "f32")),
  simple("cvt.sat.f64.f64", ["f64"], "f64"),
  simple("cvt.sat.f16.f16", ["f16"], "b16"),
];

const on80 = { capability: 80 };
const to16 = ["rn", "rz"].flatMap((mode) =>
  ["", ".relu", ".satfinite", ".relu.satfinite"].flatMap((m) => [
    ...(m === "" ? [] : [simple(`cvt.${mode}${m}.f16.f32`, ["f32"], "b16", on80)]),
    simple(`cvt.${mode}${m}.bf16.f32`, ["f32"], "b16", on80),
    simple(`cvt.${mode}${m}.f16x2.f32`, ["f32", "f32"], "b32", on80),
    simple(`cvt.${mode}${m}.bf16x2.f32`, ["f32", "f32"], "b32", on80),
  ]),
);
const toTf32 = ["rna", "rna.satfinite"].map((m) => simple(`cvt.${m}.tf32.f32`, ["f32"], "b32", on80));

const on89 = { capability: 89 };
const eightBits = ["e4m3x2", "e5m2x2"].flatMap((type) =>
  ["", ".relu"].flatMap((relu) => [
    simple(`cvt.rn.satfinite${relu}.${type}.f32`, ["f32", "f32"], "b16", on89),
    simple(`cvt.rn.satfinite${relu}.${type}.f16x2`, ["f16x2"], "b16", on89),
    simple(`cvt.rn${relu}.f16x2.${type}`, ["e8x2"], "b32", on89),
  ]),
);

const packing = [
  ...["u16", "s16"].map((to) => simple(`cvt.pack.sat.${to}.s32`, ["u32", "u32"], "b32", { capability: 72 })),
  ...["u8", "s8"].map((to) =>
    simple(`cvt.pack.sat.${to}.s32.b32`, ["u32", "u32", "bits32"], "b32", { capability: 72 }),
  ),
  ...["u4", "s4", "u2", "s2"].map((to) =>
    simple(`cvt.pack.sat.${to}.s32.b32`, ["u32", "u32", "bits32"], "b32", { capability: 75 }),
  ),
];

/** Registers wider than the type: results are extended to the register, sources cut. */
const wideRegisters = [
  snippet("cvt.s16.s8 %u, %i0; mov.b32 %o0, %u;", ["u32"], "b32", { name: "cvt.s16.s8 into a wide register" }),
  snippet("cvt.u8.s32 %u, %i0; mov.b32 %o0, %u;", ["u32"], "b32", { name: "cvt.u8.s32 into a wide register" }),
  snippet("cvt.rzi.s8.f32 %u, %i0; mov.b32 %o0, %u;", ["f32"], "b32", { name: "cvt.rzi.s8.f32 into a wide register" }),
];

export const conversionCases: readonly InstructionCase[] = [
  ...betweenIntegers,
  ...integersToFloats,
  ...saturatedFloats,
  ...floatsToIntegers,
  ...toWhole,
  ...narrowing,
  ...widening,
  ...to16,
  ...toTf32,
  ...eightBits,
  ...packing,
  ...wideRegisters,
];
