/** Exact arithmetic of f32, f64 and the 16-bit floats. */
import { type InstructionCase, simple } from "../case.ts";

const modes = ["rn", "rz", "rm", "rp"];

const single: InstructionCase[] = modes.flatMap((mode) =>
  ["", ".ftz"].flatMap((ftz) => [
    ...["", ".sat"].flatMap((sat) => [
      ...["add", "sub", "mul"].map((op) => simple(`${op}.${mode}${ftz}${sat}.f32`, ["f32", "f32"], "f32")),
      simple(`fma.${mode}${ftz}${sat}.f32`, ["f32", "f32", "f32"], "f32"),
    ]),
    simple(`mad.${mode}${ftz}.f32`, ["f32", "f32", "f32"], "f32"),
    simple(`div.${mode}${ftz}.f32`, ["f32", "f32"], "f32"),
    simple(`rcp.${mode}${ftz}.f32`, ["f32"], "f32"),
    simple(`sqrt.${mode}${ftz}.f32`, ["f32"], "f32"),
  ]),
);

const double = modes.flatMap((mode) => [
  ...["add", "sub", "mul", "div"].map((op) => simple(`${op}.${mode}.f64`, ["f64", "f64"], "f64")),
  ...["fma", "mad"].map((op) => simple(`${op}.${mode}.f64`, ["f64", "f64", "f64"], "f64")),
  simple(`rcp.${mode}.f64`, ["f64"], "f64"),
  simple(`sqrt.${mode}.f64`, ["f64"], "f64"),
]);

const bare = (["f32", "f64"] as const).flatMap((type) => [
  ...["add", "sub", "mul"].map((op) => simple(`${op}.${type}`, [type, type], type)),
  ...["min", "max", "copysign"].map((op) => simple(`${op}.${type}`, [type, type], type)),
  ...["abs", "neg"].map((op) => simple(`${op}.${type}`, [type], type)),
]);

const selecting = ["min", "max"].flatMap((op) => [
  simple(`${op}.ftz.f32`, ["f32", "f32"], "f32"),
  ...["NaN", "ftz.NaN"].map((m) => simple(`${op}.${m}.f32`, ["f32", "f32"], "f32", { capability: 80 })),
  ...["xorsign.abs", "NaN.xorsign.abs", "ftz.xorsign.abs"].map((m) =>
    simple(`${op}.${m}.f32`, ["f32", "f32"], "f32", { capability: 86 }),
  ),
]);

const flushing = ["abs", "neg"].map((op) => simple(`${op}.ftz.f32`, ["f32"], "f32"));

const halves = (
  [
    ["f16", "b16"],
    ["f16x2", "b32"],
  ] as const
).flatMap(([type, d]) => [
  ...["add", "sub", "mul"].flatMap((op) =>
    ["", ".rn", ".ftz", ".sat", ".rn.ftz.sat"].map((m) => simple(`${op}${m}.${type}`, [type, type], d)),
  ),
  ...["rn", "rn.ftz", "rn.sat", "rn.ftz.sat"].map((m) => simple(`fma.${m}.${type}`, [type, type, type], d)),
  ...["rn.relu", "rn.ftz.relu"].map((m) => simple(`fma.${m}.${type}`, [type, type, type], d, { capability: 80 })),
  ...["neg", "neg.ftz", "abs", "abs.ftz"].map((op) => simple(`${op}.${type}`, [type], d)),
  ...["min", "max"].flatMap((op) => [
    ...["", ".ftz", ".NaN", ".ftz.NaN"].map((m) => simple(`${op}${m}.${type}`, [type, type], d, { capability: 80 })),
    simple(`${op}.xorsign.abs.${type}`, [type, type], d, { capability: 86 }),
  ]),
]);

const bfloats = (
  [
    ["bf16", "b16"],
    ["bf16x2", "b32"],
  ] as const
).flatMap(([type, d]) => [
  ...["rn", "rn.relu"].map((m) => simple(`fma.${m}.${type}`, [type, type, type], d, { capability: 80 })),
  ...["neg", "abs"].map((op) => simple(`${op}.${type}`, [type], d, { capability: 80 })),
  ...["min", "max"].flatMap((op) => [
    ...["", ".NaN"].map((m) => simple(`${op}${m}.${type}`, [type, type], d, { capability: 80 })),
    simple(`${op}.xorsign.abs.${type}`, [type, type], d, { capability: 86 }),
  ]),
]);

export const floatCases: readonly InstructionCase[] = [
  ...single,
  ...double,
  ...bare,
  ...selecting,
  ...flushing,
  ...halves,
  ...bfloats,
];
