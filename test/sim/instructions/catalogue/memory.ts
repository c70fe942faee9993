/** Loads, stores and moves of all widths in all state spaces, and addresses. */
import { type InstructionCase, type Result, simple, snippet } from "../case.ts";
import type { Source } from "../sources.ts";
import { ownShared, shared } from "./tile.ts";

const local = ".local .align 16 .b8 frame[64];";

const loads = [
  ...["u8", "s8", "b8", "u16", "s16"].flatMap((type) => [
    snippet(`ld.global.${type} %o0, [%ai0];`, ["u64"], "b32"),
    snippet(`ld.global.${type} %o0, [%ai0+2];`, ["u64"], "b64", { name: `ld.global.${type} into 64 bits` }),
  ]),
  snippet("ld.global.s32 %o0, [%ai0+4];", ["u64"], "b64", { name: "ld.global.s32 into 64 bits" }),
  ...["", ".nc", ".volatile", ".ca", ".cg", ".cs", ".relaxed.gpu", ".acquire.sys"].map((m) => {
    const text =
      m === ".nc"
        ? "ld.global.nc"
        : m.startsWith(".vol") || m.startsWith(".rel") || m.startsWith(".acq")
          ? `ld${m}.global`
          : `ld.global${m}`;
    return snippet(`${text}.u32 %o0, [%ai0];`, ["u32"], "b32", {
      capability: m.includes("gpu") || m.includes("sys") ? 70 : 60,
    });
  }),
  snippet("ldu.global.u32 %o0, [%ai0];", ["u32"], "b32"),
  snippet("ld.global.L1::no_allocate.u32 %o0, [%ai0];", ["u32"], "b32", { capability: 70 }),
  snippet("ld.global.v2.u32 {%o0, %o1}, [%ai0];", ["u64"], ["b32", "b32"]),
  snippet("ld.global.v4.u16 {%o0, %o1, %o2, %o3}, [%ai0];", ["u64"], ["b16", "b16", "b16", "b16"]),
  snippet("ld.global.v4.s8 {%o0, %o1, %o2, %o3}, [%ai0];", ["u32"], ["b32", "b32", "b32", "b32"]),
  snippet("ld.global.v2.f32 {%o0, %o1}, [%ai0];", ["u64"], ["f32", "f32"]),
  // 16 bytes at a multiple of 16: two threads read the same.
  ...["b32 {%o0, %o1, %o2, %o3}", "f32 {%o0, %o1, %o2, %o3}"].map((form) =>
    snippet(
      `and.b64 %x, %ai0, -16; ld.global.v4.${form}, [%x];`,
      ["u64"],
      form.startsWith("f") ? ["f32", "f32", "f32", "f32"] : ["b32", "b32", "b32", "b32"],
      { name: `ld.global.v4.${form.slice(0, 3)}` },
    ),
  ),
  snippet("and.b64 %x, %ai0, -16; ld.global.v2.u64 {%o0, %o1}, [%x];", ["u64"], ["b64", "b64"], {
    name: "ld.global.v2.u64",
  }),
  snippet("and.b64 %x, %ai0, -16; ld.global.v2.f64 {%o0, %o1}, [%x];", ["f64"], ["f64", "f64"], {
    name: "ld.global.v2.f64",
  }),
  snippet("ld.u32 %o0, [%ai0];", ["u32"], "b32", { name: "ld.u32, generic" }),
  snippet("ld.global.u64 %o0, [%ai0];", ["u64"], "b64"),
  snippet("add.u64 %x, %ai0, 4096; ld.global.u32 %o0, [%x+-4096];", ["u32"], "b32", {
    name: "ld.global.u32 at a negative offset",
  }),
  snippet("ld.global.nc.s32 %o0, [%ai0];", ["u32"], "b32"),
  ...["nc.v4.u32", "v4.u32", "nc.L1::no_allocate.v4.u32"].map((form) =>
    snippet(
      `and.b64 %x, %ai0, -16; ld.global.${form} {%o0, %o1, %o2, %o3}, [%x];`,
      ["u32"],
      ["b32", "b32", "b32", "b32"],
      {
        name: `ld.global.${form}`,
        capability: form.includes("L1") ? 70 : 60,
      },
    ),
  ),
];

const stores = [
  ...["u8", "b16", "u32"].map((type) =>
    snippet(`st.global.u32 [%ao0], 0; st.global.${type} [%ao0], %i0;`, ["u32"], "m4", { name: `st.global.${type}` }),
  ),
  snippet("st.global.u64 [%ao0], %i0;", ["u64"], "m8"),
  snippet("st.global.v2.u32 [%ao0], {%i0, %i1};", ["u32", "bits32"], "m8"),
  snippet("st.global.v4.u16 [%ao0], {%i0, %i1, %i0, %i1};", ["u16", "u16"], "m8"),
  snippet("st.global.v4.u8 [%ao0], {%i0, %i1, %i1, %i0};", ["u32", "bits32"], "m4"),
  snippet("st.global.v4.f32 [%ao0], {%i0, %i1, %i1, %i0};", ["f32", "f32"], "m16"),
  snippet("st.global.v2.f64 [%ao0], {%i0, %i1};", ["f64", "f64"], "m16"),
  ...[".volatile", ".relaxed.gpu", ".release.cta"].map((m) =>
    snippet(`st${m}.global.u32 [%ao0], %i0;`, ["u32"], "m4", { capability: m === ".volatile" ? 60 : 70 }),
  ),
  ...[".wb", ".cg", ".cs", ".wt"].map((m) => snippet(`st.global${m}.u32 [%ao0], %i0;`, ["u32"], "m4")),
  snippet("st.u64 [%ao0], %i0;", ["u64"], "m8", { name: "st.u64, generic" }),
  snippet("st.global.u32 [%ao0], 0; st.global.u16 [%ao0], %i0;", ["u16"], "m4", { name: "st.global.u16" }),
  snippet("st.global.v2.u16 [%ao0], {%i0, %i1};", ["u16", "u16"], "m4"),
  snippet("st.global.v2.f32 [%ao0], {%i0, %i1};", ["f32", "f32"], "m8"),
  snippet("st.global.v2.u64 [%ao0], {%i0, %i1};", ["u64", "u64"], "m16"),
  snippet("st.global.v4.u32 [%ao0], {%i0, %i1, 5, -1};", ["u32", "u32"], "m16"),
];

/** Bits pass unchanged: also those of NaN. */
const moves = [
  ...(["f32", "f64", "u16", "u32", "u64"] as const).map((type) =>
    simple(`mov.${type}`, [type], type.startsWith("u") ? (`b${type.slice(1)}` as Result) : (type as Result)),
  ),
  snippet("mov.b32 %o0, {%i0, %i1};", ["u16", "u16"], "b32", { name: "mov.b32 of two" }),
  snippet("mov.b64 %o0, {%i0, %i1};", ["u32", "f32"], "b64", { name: "mov.b64 of two" }),
  snippet("mov.b64 %o0, {%i0, %i1, %i2, %i0};", ["u16", "u16", "u16"], "b64", { name: "mov.b64 of four" }),
  snippet("mov.b32 {%o0, %o1}, %i0;", ["f32"], ["b16", "b16"], { name: "mov.b32 into two" }),
  snippet("mov.b64 {%o0, %o1}, %i0;", ["f64"], ["b32", "f32"], { name: "mov.b64 into two" }),
  snippet("mov.b64 {_, %o0}, %i0;", ["u64"], ["b32"], { name: "mov.b64, one part of two" }),
  snippet(
    "mov.f32 %o0, 0f7FC12345; mov.f64 %o1, 0d7FF0000000000005; mov.f64 %o2, 1.5; mov.f32 %o3, 0fFFFFFFFF;",
    [],
    ["f32", "f64", "f64", "f32"],
    { name: "mov of literals" },
  ),
];

const inShared = (["u16", "u32", "u64", "f32", "f64"] as const).map((type) => {
  const width = { u16: "b16", u32: "b32", u64: "b64", f32: "f32", f64: "f64" } as const;
  return snippet(
    `${ownShared} st.shared.${type} [%x+8], %i0; bar.sync 0; xor.b32 %t, %t, 5; mul.wide.u32 %y, %t, 32; mov.u64 %x, tile; add.u64 %x, %x, %y; ld.shared.${type} %o0, [%x+8];`,
    [type],
    width[type],
    { name: `st.shared.${type}, ld.shared.${type}`, declarations: shared },
  );
});

/** Vectors in shared memory: what one thread stores, another loads. */
const sharedVectors = [
  ["v2.u16", 2, "u16", "b16"],
  ["v2.u32", 2, "u32", "b32"],
  ["v2.f32", 2, "f32", "f32"],
  ["v2.u64", 2, "u64", "b64"],
  ["v4.u8", 4, "u32", "b32"],
  ["v4.u16", 4, "u16", "b16"],
  ["v4.u32", 4, "u32", "b32"],
  ["v4.f32", 4, "f32", "f32"],
] as const;
const vectorsInShared = sharedVectors.map(([form, length, source, width]) => {
  const list = (prefix: string): string => `{${Array.from({ length }, (_, i) => `%${prefix}${i}`).join(", ")}}`;
  return snippet(
    `${ownShared} st.shared.${form} [%x], ${list("i")}; bar.sync 0; xor.b32 %t, %t, 37; mul.wide.u32 %y, %t, 32; mov.u64 %x, tile; add.u64 %x, %x, %y; ld.shared.${form} ${list("o")}, [%x];`,
    Array<Source>(length).fill(source),
    Array<Result>(length).fill(width),
    { name: `st.shared.${form}, ld.shared.${form}`, declarations: shared },
  );
});

const inLocal = [
  snippet(
    "mov.u64 %x, frame; and.b32 %t, %i2, 7; mul.wide.u32 %y, %t, 4; add.u64 %x, %x, %y; st.local.v2.f32 [frame], {%i0, %i1}; st.local.v4.u32 [frame+16], {1, 2, 3, 4}; st.local.f32 [frame+8], %i0; st.local.f32 [frame+12], %i1; st.local.u8 [frame+12], %lane; st.local.u8 [%x], 9; ld.local.f32 %o0, [%x]; ld.local.v2.f32 {%o1, %o2}, [frame]; ld.local.u32 %o3, [%x];",
    ["f32", "f32", "lane"],
    ["f32", "f32", "f32", "b32"],
    { name: "st.local.v2.f32, ld.local.f32", declarations: local },
  ),
];

const ordering = [
  "membar.cta",
  "membar.gl",
  "membar.sys",
  "fence.acq_rel.cta",
  "fence.sc.gpu",
  "fence.acq_rel.sys",
].map((fence) =>
  snippet(
    `st.global.u32 [%ao0], %i0; ${fence}; ld.global.u32 %t, [%ao0]; add.u32 %t, %t, 1; st.global.u32 [%ao0], %t;`,
    ["u32"],
    "m4",
    {
      name: fence,
      capability: fence.startsWith("fence") ? 70 : 60,
    },
  ),
);
const hints = [
  "prefetch.global.L2 [%ai0];",
  "prefetch.global.L1 [%ai0];",
  "prefetchu.L1 [%ai0];",
  "nanosleep.u32 5;",
].map((hint) =>
  snippet(`${hint} ld.global.u32 %o0, [%ai0];`, ["u32"], "b32", { capability: hint.startsWith("nano") ? 70 : 60 }),
);

const otherSpaces = [
  snippet(
    `${ownShared} st.shared.v4.u32 [%x], {%i0, %i1, %i1, %i0}; cvta.shared.u64 %y, %x; bar.sync 0; ld.v2.u32 {%o0, %o1}, [%y+8]; ld.shared.u8 %o2, [%x+3];`,
    ["u32", "bits32"],
    ["b32", "b32", "b32"],
    { name: "st.shared.v4.u32, ld.v2.u32, generic", declarations: shared },
  ),
  snippet(
    `${ownShared} st.shared.u32 [%x], %i1; st.shared.u8 [%x+1], %i0; ld.shared.u32 %o0, [%x]; ld.shared.s8 %o1, [%x+1]; ld.shared.u8 %o2, [%x+1];`,
    ["u32", "bits32"],
    ["b32", "b32", "b32"],
    { name: "st.shared.u8, ld.shared.s8", declarations: shared },
  ),
  snippet(
    `mov.u64 %x, frame; and.b32 %t, %i1, 7; mul.wide.u32 %y, %t, 8; add.u64 %x, %x, %y; st.local.u64 [frame], %i0; st.local.u64 [%x], %i0; cvta.local.u64 %y, %x; ld.u32 %o0, [%y+4]; ld.local.s16 %o1, [%x+2];`,
    ["u64", "lane"],
    ["b32", "b32"],
    { name: "st.local.u64, ld generic, ld.local.s16", declarations: local },
  ),
  snippet(
    "mov.u64 %x, numbers; and.b32 %t, %i0, 7; mul.wide.u32 %y, %t, 4; add.u64 %x, %x, %y; ld.const.u32 %o0, [%x]; cvta.const.u64 %y, %x; ld.u32 %o1, [%y]; ld.const.v2.u32 {%o2, %o3}, [numbers+8];",
    ["lane"],
    ["b32", "b32", "b32", "b32"],
    { name: "ld.const", module: ".const .align 16 .u32 numbers[8] = {3, 1, 4, 1, 5, 9, 2, 0xffffffff};" },
  ),
  snippet(
    "mov.u64 %x, table; and.b32 %t, %i0, 3; mul.wide.u32 %y, %t, 8; add.u64 %x, %x, %y; ld.global.f64 %o0, [%x]; ld.global.u8 %o1, [%x+7];",
    ["lane"],
    ["f64", "b32"],
    {
      name: "a variable of global memory",
      module:
        ".global .align 8 .f64 table[4] = {0d3FF0000000000000, 0dC000000000000000, 0d7FF8000000000001, 0d0000000000000001};",
    },
  ),
  snippet(
    "ld.param.u32 %o0, [o0+4]; ld.param.u16 %o1, [o0+6]; ld.param.v2.u32 {%t, %u}, [o0]; sub.u32 %o0, %o0, %u; sub.u16 %o1, %o1, %o1;",
    [],
    ["b32", "b16"],
    { name: "ld.param" },
  ),
  snippet(
    "ld.param.f32 %f, [o0]; ld.param.s32 %t, [o0+4]; mov.b32 %u, %f; ld.param.u32 %v, [o0]; sub.u32 %o0, %u, %v; shr.u32 %o1, %t, 31;",
    [],
    ["b32", "b32"],
    { name: "ld.param.f32, ld.param.s32" },
  ),
];

const spaces = ["global", "shared", "local", "const"].map((space) =>
  snippet(
    `mov.u64 %x, tile; cvta.shared.u64 %x, %x; mov.u64 %y, frame; st.local.u32 [frame], %lane; cvta.local.u64 %y, %y; isspacep.${space} %o0, %x; isspacep.${space} %o1, %y; isspacep.${space} %o2, %ao0; ld.shared.u32 %t, [tile];`,
    [],
    ["pred", "pred", "pred"],
    { name: `isspacep.${space}`, declarations: `${shared}\n${local}` },
  ),
);

const backAndForth = snippet(
  "mov.u64 %x, tile; cvta.shared.u64 %y, %x; cvta.to.shared.u64 %y, %y; sub.u64 %o0, %y, %x; st.shared.u32 [tile], %lane;",
  [],
  "b64",
  { name: "cvta.shared, cvta.to.shared", declarations: shared },
);

const specials = snippet(
  "mov.u32 %o0, %tid.x; mov.u32 %o1, %ntid.x; mov.u32 %o2, %ctaid.x; mov.u32 %o3, %nctaid.x; mov.u32 %o4, %laneid; mov.u32 %o5, %lanemask_lt; mov.u32 %o6, %lanemask_ge; mov.u32 %o7, WARP_SZ; mov.u32 %o8, %tid.y; mov.u32 %o9, %lanemask_eq; mov.u32 %o10, %lanemask_le; mov.u32 %o11, %lanemask_gt; mov.u32 %o12, %dynamic_smem_size;",
  [],
  Array<Result>(13).fill("b32"),
  { name: "special registers" },
);

export const memoryCases: readonly InstructionCase[] = [
  ...loads,
  ...stores,
  ...moves,
  ...inShared,
  ...vectorsInShared,
  ...inLocal,
  ...ordering,
  ...hints,
  ...otherSpaces,
  ...spaces,
  backAndForth,
  specials,
];
