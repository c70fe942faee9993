/** Comparisons, selections and logic on predicates. */
import { type InstructionCase, simple, snippet } from "../case.ts";
import type { Source } from "../sources.ts";

const ordered = ["eq", "ne", "lt", "le", "gt", "ge"];
const floatOperators = [...ordered, "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"];

const integerTypes = [16, 32, 64].flatMap((bits) => [
  { type: `u${bits}`, source: `u${bits}` as Source, operators: [...ordered, "lo", "ls", "hi", "hs"] },
  { type: `s${bits}`, source: `u${bits}` as Source, operators: ordered },
  { type: `b${bits}`, source: `u${bits}` as Source, operators: ["eq", "ne"] },
]);
const floatTypes: { type: string; source: Source; operators: readonly string[] }[] = [
  { type: "ftz.f32", source: "f32", operators: floatOperators },
  { type: "f32", source: "f32", operators: floatOperators },
  { type: "f64", source: "f64", operators: floatOperators },
  { type: "f16", source: "f16", operators: floatOperators },
  { type: "ftz.f16", source: "f16", operators: ["lt", "equ"] },
];

const setPredicates = [...integerTypes, ...floatTypes].flatMap(({ type, source, operators }) =>
  operators.map((operator) => simple(`setp.${operator}.${type}`, [source, source], "pred")),
);

const combined = ["and", "or", "xor"].flatMap((op) => [
  simple(`setp.lt.${op}.s32`, ["u32", "u32", "pred"], "pred"),
  snippet(`setp.ge.${op}.f32 %o0|%o1, %i0, %i1, %i2;`, ["f32", "f32", "pred"], ["pred", "pred"], {
    name: `setp.ge.${op}.f32 with two results`,
  }),
  snippet(`setp.ltu.${op}.f64 %o0|%o1, %i0, %i1, !%i2;`, ["f64", "f64", "pred"], ["pred", "pred"], {
    name: `setp.ltu.${op}.f64 with two results`,
  }),
]);

const setPairs = ["eq", "ne", "lt", "geu", "nan", "num"].flatMap((operator) => [
  snippet(`setp.${operator}.f16x2 %o0|%o1, %i0, %i1;`, ["f16x2", "f16x2"], ["pred", "pred"]),
  simple(`set.${operator}.f16x2.f16x2`, ["f16x2", "f16x2"], "b32"),
]);

const sets = [...integerTypes, ...floatTypes.slice(0, 3)].flatMap(({ type, source }) => {
  const operator = type.startsWith("b") ? "ne" : "le";
  const flushing = type.startsWith("ftz") ? ".ftz" : "";
  const from = type.replace("ftz.", "");
  return [
    ...["u32", "s32"].map((to) => simple(`set.${operator}${flushing}.${to}.${from}`, [source, source], "b32")),
    simple(`set.${operator}${flushing}.f32.${from}`, [source, source], "f32"),
  ];
});

const moreSets = [
  simple("set.gtu.xor.u32.f32", ["f32", "f32", "pred"], "b32"),
  simple("set.hi.and.f32.u32", ["u32", "u32", "pred"], "f32"),
  ...["u16", "s16"].map((to) => simple(`set.lt.${to}.f16`, ["f16", "f16"], "b16")),
  simple("set.geu.u32.f16", ["f16", "f16"], "b32"),
  simple("set.ne.s32.f16", ["f16", "f16"], "b32"),
  simple("set.ne.f16.f16", ["f16", "f16"], "b16"),
  simple("set.lt.f16.f32", ["f32", "f32"], "b16"),
  simple("set.lt.or.f16.s32", ["u32", "u32", "pred"], "b16"),
];

const selections = [16, 32, 64].flatMap((bits) => {
  const a = `u${bits}` as Source;
  const d = `b${bits}` as "b16" | "b32" | "b64";
  return [
    ...["b", "u", "s"].map((t) => simple(`selp.${t}${bits}`, [a, a, "pred"], d)),
    ...["b", "u", "s"].map((t) => simple(`slct.${t}${bits}.s32`, [a, a, "u32"], d)),
    simple(`slct.b${bits}.f32`, [a, a, "f32"], d),
    simple(`slct.ftz.u${bits}.f32`, [a, a, "f32"], d),
  ];
});

const floatSelections = (["f32", "f64"] as const).flatMap((type) => [
  simple(`selp.${type}`, [type, type, "pred"], type),
  simple(`slct.${type}.s32`, [type, type, "u32"], type),
  simple(`slct.${type}.f32`, [type, type, "f32"], type),
]);

const tests = ["finite", "infinite", "number", "notanumber", "normal", "subnormal"].flatMap((name) =>
  (["f32", "f64"] as const).map((type) => simple(`testp.${name}.${type}`, [type], "pred")),
);

const predicates = [
  ...["and", "or", "xor"].map((op) => simple(`${op}.pred`, ["pred", "pred"], "pred")),
  simple("not.pred", ["pred"], "pred"),
  simple("mov.pred", ["pred"], "pred"),
  snippet("mov.b32 %o0, 7; @%i0 add.u32 %o0, %i1, 1; @!%i0 mul.lo.u32 %o0, %i1, 3;", ["pred", "u32"], "b32", {
    name: "guards",
  }),
  snippet(
    "mov.b32 %o0, 0; and.b32 %t, %i0, 63; LOOP: setp.eq.u32 %p, %t, 0; @%p bra END; add.u32 %o0, %o0, %t; sub.u32 %t, %t, 1; bra.uni LOOP; END:",
    ["u32"],
    "b32",
    { name: "bra, lanes leaving a loop at different times" },
  ),
];

export const comparisonCases: readonly InstructionCase[] = [
  ...setPredicates,
  ...combined,
  ...setPairs,
  ...sets,
  ...moreSets,
  ...selections,
  ...floatSelections,
  ...tests,
  ...predicates,
];
