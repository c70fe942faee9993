/** Atomic operations and reductions, and asynchronous copies. */
import { type InstructionCase, type Result, snippet } from "../case.ts";
import type { Source } from "../sources.ts";
import { ownShared, shared } from "./tile.ts";

const atomicForms: { op: string; type: string; source: Source; width: Result; capability: number }[] = [
  ...["add", "min", "max"].flatMap((op) =>
    ["u32", "s32", "u64", "s64"]
      .filter((type) => !(op === "add" && type === "s64"))
      .map((type) => ({
        op,
        type,
        source: `u${type.slice(1)}` as Source,
        width: `b${type.slice(1)}` as Result,
        capability: 60,
      })),
  ),
  ...["and", "or", "xor", "exch"].flatMap((op) =>
    ["b32", "b64"].map((type) => ({
      op,
      type,
      source: `u${type.slice(1)}` as Source,
      width: type as Result,
      capability: 60,
    })),
  ),
  ...["inc", "dec"].map((op) => ({ op, type: "u32", source: "u32" as Source, width: "b32" as Result, capability: 60 })),
  { op: "add", type: "f32", source: "f32", width: "f32", capability: 60 },
  { op: "add", type: "f64", source: "f64", width: "f64", capability: 60 },
  { op: "add.noftz", type: "f16x2", source: "f16x2", width: "b32", capability: 60 },
];

/** Each thread alone on its own word: the old value, and what is left in memory. */
const atomics = atomicForms.flatMap(({ op, type, source, width, capability }) => {
  const memory = width === "b64" || width === "f64" ? "m8" : "m4";
  const at = (space: string) => (space === "shared" ? "%x" : "%ao1");
  return ["global", "shared"].flatMap((space) => {
    const begin = space === "shared" ? `${ownShared} st.shared.${width} [%x], %i0;` : `st.global.${width} [%ao1], %i0;`;
    const end = space === "shared" ? `ld.shared.${width} %i0, [%x]; st.global.${width} [%ao1], %i0;` : "";
    const declarations = space === "shared" ? shared : "";
    return [
      snippet(
        `${begin} atom.${space}.${op}.${type} %o0, [${at(space)}], %i1; ${end}`,
        [source, source],
        [width, memory],
        {
          name: `atom.${space}.${op}.${type}`,
          capability,
          declarations,
        },
      ),
      ...(op === "exch"
        ? []
        : [
            snippet(
              `${begin.replaceAll("%ao1", "%ao0")} red.${space}.${op}.${type} [${at(space).replace("%ao1", "%ao0")}], %i1; ${end.replaceAll("%ao1", "%ao0")}`,
              [source, source],
              [memory],
              { name: `red.${space}.${op}.${type}`, capability, declarations },
            ),
          ]),
    ];
  });
});

const exchanges = [
  ...[32, 64].map((bits) =>
    snippet(
      `st.global.b${bits} [%ao1], %i0; atom.global.cas.b${bits} %o0, [%ao1], %i1, %i2;`,
      [`few${bits}` as Source, `few${bits}` as Source, `u${bits}` as Source],
      [`b${bits}` as Result, bits === 64 ? "m8" : "m4"],
      { name: `atom.global.cas.b${bits}` },
    ),
  ),
  snippet(
    "st.global.b32 [%ao1], %i0; cvt.u16.u32 %h, %i1; atom.global.cas.b16 %g, [%ao1], %h, %i2; cvt.u32.u16 %o0, %g;",
    ["few32", "few32", "u16"],
    ["b32", "m4"],
    { name: "atom.global.cas.b16", capability: 70 },
  ),
  snippet(
    "st.global.b32 [%ao1], %i0; atom.global.add.noftz.f16 %h, [%ao1], %i1; cvt.u32.u16 %o0, %h;",
    ["f16x2", "f16"],
    ["b32", "m4"],
    { name: "atom.global.add.noftz.f16", capability: 70 },
  ),
  ...["relaxed.gpu", "acquire.cta", "release.sys", "acq_rel.gpu"].map((order) =>
    snippet(
      `st.global.b32 [%ao1], %i0; atom.${order}.global.add.u32 %o0, [%ao1], %i1;`,
      ["u32", "u32"],
      ["b32", "m4"],
      {
        name: `atom.${order}.global.add.u32`,
        capability: 70,
      },
    ),
  ),
  snippet("st.global.b32 [%ao1], %i0; atom.add.u32 %o0, [%ao1], %i1;", ["u32", "u32"], ["b32", "m4"], {
    name: "atom.add.u32, generic",
  }),
];

/** Generic addresses of global and of shared memory. */
const genericSums = (["f32", "u64", "f64"] as const).flatMap((type) => {
  const [memory, width] = type === "f32" ? (["m4", "f32"] as const) : (["m8", type === "u64" ? "b64" : "f64"] as const);
  return [
    snippet(`st.global.${width} [%ao1], %i0; atom.add.${type} %o0, [%ao1], %i1;`, [type, type], [width, memory], {
      name: `atom.add.${type}, generic, in global memory`,
    }),
    snippet(
      `${ownShared} st.shared.${width} [%x], %i0; cvta.shared.u64 %y, %x; atom.add.${type} %o0, [%y], %i1; ld.shared.${width} %o1, [%x];`,
      [type, type],
      [width, width],
      { name: `atom.add.${type}, generic, in shared memory`, declarations: shared },
    ),
  ];
});

/** All threads of a block on one word: the total does not depend on their order. */
const contended = (
  [
    ["add.u32", "u32", "b32", "u32 [tile], 5"],
    ["add.u64", "u64", "b64", "u64 [tile], 5"],
    ["min.s32", "u32", "b32", "u32 [tile], 0"],
    ["max.u64", "u64", "b64", "u64 [tile], 0"],
    ["xor.b32", "u32", "b32", "u32 [tile], 1"],
    ["or.b32", "few32", "b32", "u32 [tile], 0"],
    ["inc.u32", "few32", "b32", "u32 [tile], 0"],
    ["add.f32", "wholeF32", "f32", "u32 [tile], 0"],
    ["add.f64", "wholeF64", "f64", "u64 [tile], 0"],
  ] as const
).map(([form, source, width, begin]) =>
  snippet(
    `st.shared.${begin}; bar.sync 0; red.shared.${form} [tile], ${form === "inc.u32" ? "1000" : "%i0"}; bar.sync 0; ld.shared.${width} %o0, [tile];`,
    [source],
    width,
    { name: `red.shared.${form}, a block on one word`, declarations: shared },
  ),
);

const counted = snippet(
  "st.shared.u32 [tile], 0; bar.sync 0; atom.shared.add.u32 %t, [tile], 1; mul.wide.u32 %y, %t, 4; mov.u64 %x, tile; add.u64 %x, %x, %y; st.shared.u32 [%x+16], 1; bar.sync 0; mov.u32 %t, %tid.x; mul.wide.u32 %y, %t, 4; mov.u64 %x, tile; add.u64 %x, %x, %y; ld.shared.u32 %o0, [%x+16];",
  [],
  "b32",
  { name: "atom.shared.add.u32: every thread gets another number", declarations: shared },
);

const finish = "cp.async.commit_group; cp.async.wait_group 0;";
const on80 = { capability: 80, declarations: shared };
const copies = [
  ...[4, 8].map((bytes) =>
    snippet(
      `${ownShared} cp.async.ca.shared.global [%x], [%ai0], ${bytes}; ${finish} ld.shared.u${8 * bytes} %o0, [%x];`,
      [bytes === 4 ? "u32" : "u64"],
      bytes === 4 ? "b32" : "b64",
      { name: `cp.async.ca ${bytes}`, ...on80 },
    ),
  ),
  ...["ca", "cg"].map((cache) =>
    snippet(
      `${ownShared} and.b64 %ai0, %ai0, -16; cp.async.${cache}.shared.global [%x], [%ai0], 16; cp.async.wait_all; ld.shared.v2.u64 {%o0, %o1}, [%x];`,
      ["u64"],
      ["b64", "b64"],
      { name: `cp.async.${cache} 16`, ...on80 },
    ),
  ),
  snippet(
    `${ownShared} st.shared.u64 [%x], %i0; and.b32 %t, %i1, 15; min.u32 %t, %t, 8; cp.async.ca.shared.global [%x], [%ai0], 8, %t; ${finish} ld.shared.u64 %o0, [%x];`,
    ["u64", "lane"],
    "b64",
    { name: "cp.async.ca with a source size", ...on80 },
  ),
  snippet(
    `${ownShared} st.shared.v2.u64 [%x], {%i0, %i0}; and.b64 %ai0, %ai0, -16; selp.b32 %t, 16, 0, %i1; cp.async.cg.shared.global [%x], [%ai0], 16, %t; ${finish} ld.shared.v2.u64 {%o0, %o1}, [%x];`,
    ["u64", "pred"],
    ["b64", "b64"],
    { name: "cp.async.cg 16 or nothing", ...on80 },
  ),
  snippet(
    `${ownShared} st.shared.u64 [%x], %i0; cp.async.ca.shared.global [%x], [%ai0], 8, %i1; ${finish} ld.shared.u64 %o0, [%x];`,
    ["u64", "pred"],
    "b64",
    { name: "cp.async.ca with ignore-src", ...on80 },
  ),
  snippet(
    `${ownShared} cp.async.ca.shared.global.L2::128B [%x], [%ai0], 8; ${finish} ld.shared.u64 %o0, [%x];`,
    ["u64"],
    "b64",
    { name: "cp.async.ca.L2::128B", ...on80 },
  ),
];

export const atomicCases: readonly InstructionCase[] = [
  ...atomics,
  ...exchanges,
  ...genericSums,
  ...contended,
  counted,
  ...copies,
];
