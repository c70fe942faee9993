/** What lanes of a warp and threads of a block do together. */
import { type InstructionCase, type Result, snippet } from "../case.ts";
import type { Source } from "../sources.ts";

/** %v: a member mask that holds this lane, random and the same for all lanes that it names: one set of lanes, or the rest. */
const halves =
  "shfl.sync.idx.b32 %v, %i0, 0, 0x1f, 0xffffffff; shr.u32 %t, %v, %lane; and.b32 %t, %t, 1; setp.ne.u32 %p, %t, 0; @!%p not.b32 %v, %v;";
const everyone = "0xffffffff";

/** Runs an instruction in both sets, one after the other. */
function inBoth(instruction: string): string {
  return `@%p ${instruction} @!%p ${instruction}`;
}

const shuffles = ["up", "down", "bfly", "idx"].flatMap((mode) => {
  const clamp = mode === "up" ? 0 : 0x1f;
  return [
    snippet(`shfl.sync.${mode}.b32 %o0|%o1, %i0, %i1, ${clamp}, ${everyone};`, ["u32", "lane"], ["b32", "pred"]),
    ...[1, 2, 4, 8, 16].map((width) =>
      snippet(
        `shfl.sync.${mode}.b32 %o0|%o1, %i0, %i1, ${((32 - width) << 8) | (mode === "up" ? 0 : 31)}, ${everyone};`,
        ["u32", "lane"],
        ["b32", "pred"],
        { name: `shfl.sync.${mode}.b32 in segments of ${width}` },
      ),
    ),
    snippet(`shfl.sync.${mode}.b32 %o0, %i0, 3, ${clamp}, ${everyone};`, ["f32"], ["f32"], {
      name: `shfl.sync.${mode}.b32 by 3`,
    }),
    snippet(
      `and.b32 %t, %i2, 31; shfl.sync.${mode}.b32 %o0|%o1, %i0, %i1, %t, ${everyone};`,
      ["u32", "u32", "bits32"],
      ["b32", "pred"],
      {
        name: `shfl.sync.${mode}.b32, each lane its clamp`,
      },
    ),
  ];
});

/** What a lane reads of one that is not a member is undefined: those results are left out. */
const masked = snippet(
  `${halves} and.b32 %t, %i2, 31; shr.u32 %u, %v, %t; and.b32 %u, %u, 1; setp.ne.u32 %q, %u, 0; ${inBoth("shfl.sync.idx.b32 %o0, %i1, %t, 0x1f, %v;")} selp.b32 %o0, %o0, 0, %q;`,
  ["bits32", "u32", "lane"],
  "b32",
  { name: "shfl.sync.idx.b32 in two sets of lanes", capability: 70 },
);

const votes = ["all", "any", "uni"].flatMap((mode) => [
  snippet(`vote.sync.${mode}.pred %o0, %i0, ${everyone};`, ["pred"], "pred"),
  snippet(`vote.sync.${mode}.pred %o0, !%i0, ${everyone};`, ["pred"], "pred", {
    name: `vote.sync.${mode}.pred of a negation`,
  }),
  snippet(`setp.lt.u32 %p, %i0, 0x10000000; vote.sync.${mode}.pred %o0, %p, ${everyone};`, ["bits32"], "pred", {
    name: `vote.sync.${mode}.pred, mostly false`,
  }),
  snippet(`${halves} ${inBoth(`vote.sync.${mode}.pred %o0, %i1, %v;`)}`, ["bits32", "pred"], "pred", {
    name: `vote.sync.${mode}.pred in two sets of lanes`,
    capability: 70,
  }),
  snippet(
    `shr.u32 %t, %i0, 27; setp.gt.u32 %q, %t, %lane; shfl.sync.idx.b32 %t, %t, 0, 0x1f, ${everyone}; setp.lt.u32 %q, %t, 3; vote.sync.${mode}.pred %o0, %q, ${everyone};`,
    ["bits32"],
    "pred",
    {
      name: `vote.sync.${mode}.pred of what all agree on`,
    },
  ),
]);

const ballots = [
  snippet(`vote.sync.ballot.b32 %o0, %i0, ${everyone};`, ["pred"], "b32"),
  snippet(`${halves} ${inBoth("vote.sync.ballot.b32 %o0, %i1, %v;")}`, ["bits32", "pred"], "b32", {
    name: "vote.sync.ballot.b32 in two sets of lanes",
    capability: 70,
  }),
  snippet("activemask.b32 %o0;", [], "b32"),
];

const on70 = { capability: 70 };
const matches = [32, 64].flatMap((bits) => {
  const few = `few${bits}` as Source;
  return [
    snippet(`match.any.sync.b${bits} %o0, %i0, ${everyone};`, [few], "b32", on70),
    snippet(`match.all.sync.b${bits} %o0|%o1, %i0, ${everyone};`, [few], ["b32", "pred"], on70),
    snippet(`${halves} ${inBoth(`match.any.sync.b${bits} %o0, %i1, %v;`)}`, ["bits32", few], "b32", {
      name: `match.any.sync.b${bits} in two sets of lanes`,
      ...on70,
    }),
    snippet(
      `${halves} selp.b${bits} %i1, %i1, 7, %p; ${inBoth(`match.all.sync.b${bits} %o0|%o1, %i1, %v;`)}`,
      ["bits32", few],
      ["b32", "pred"],
      {
        name: `match.all.sync.b${bits} in two sets of lanes`,
        ...on70,
      },
    ),
  ];
});

const reductions = [
  "add.u32",
  "add.s32",
  "min.u32",
  "min.s32",
  "max.u32",
  "max.s32",
  "and.b32",
  "or.b32",
  "xor.b32",
].flatMap((form) => [
  snippet(`redux.sync.${form} %o0, %i0, ${everyone};`, ["u32"], "b32", { capability: 80 }),
  snippet(`${halves} ${inBoth(`redux.sync.${form} %o0, %i1, %v;`)}`, ["bits32", "u32"], "b32", {
    name: `redux.sync.${form} in two sets of lanes`,
    capability: 80,
  }),
]);

const barriers = [
  ...["popc.u32", "and.pred", "or.pred"].flatMap((form) => {
    const result: Result = form === "popc.u32" ? "b32" : "pred";
    return [
      snippet(`bar.red.${form} %o0, 0, %i0;`, ["pred"], result),
      snippet(`setp.gt.u32 %p, %i0, 0x4000000; barrier.red.${form} %o0, 1, 128, %p;`, ["bits32"], result, {
        name: `barrier.red.${form} of nearly all`,
        capability: 70,
      }),
      snippet(`setp.lt.u32 %p, %i0, 0x4000000; bar.red.${form} %o0, 2, !%p;`, ["bits32"], result, {
        name: `bar.red.${form} of a negation`,
      }),
    ];
  }),
  // Two warps fill one half of shared memory and arrive; the other two wait for them and read it.
  snippet(
    "mov.u32 %t, %tid.x; setp.lt.u32 %p, %t, 64; and.b32 %u, %t, 63; mul.wide.u32 %y, %u, 4; mov.u64 %x, tile; add.u64 %x, %x, %y; mov.b32 %o0, %i0; @%p st.shared.u32 [%x], %i0; @%p bar.arrive 3, 128; @!%p bar.sync 3, 128; @!%p ld.shared.u32 %o0, [%x];",
    ["u32"],
    "b32",
    { name: "bar.arrive and bar.sync of two halves", declarations: ".shared .align 4 .b8 tile[256];" },
  ),
  snippet(
    "mul.wide.u32 %y, %lane, 4; mov.u32 %t, %tid.x; and.b32 %t, %t, 96; mul.wide.u32 %x, %t, 4; add.u64 %y, %y, %x; mov.u64 %x, tile; add.u64 %x, %x, %y; st.shared.u32 [%x], %i0; bar.warp.sync 0xffffffff; xor.b32 %u, %lane, 9; add.u32 %u, %u, %t; mul.wide.u32 %y, %u, 4; mov.u64 %x, tile; add.u64 %x, %x, %y; ld.shared.u32 %o0, [%x];",
    ["u32"],
    "b32",
    { name: "bar.warp.sync", declarations: ".shared .align 4 .b8 tile[512];" },
  ),
];

export const warpCases: readonly InstructionCase[] = [
  ...shuffles,
  masked,
  ...votes,
  ...ballots,
  ...matches,
  ...reductions,
  ...barriers,
];
