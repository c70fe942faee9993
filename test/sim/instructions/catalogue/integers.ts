/** Integer arithmetic, with extended precision, and the bit instructions. */
import { type InstructionCase, simple, snippet } from "../case.ts";
import type { Source } from "../sources.ts";

const widths = [16, 32, 64] as const;
const both = ["u", "s"] as const;
const of = (bits: number): Source => `u${bits}` as Source;
const result = (bits: number) => `b${bits}` as "b16" | "b32" | "b64";

const arithmetic: InstructionCase[] = widths.flatMap((bits) =>
  both.flatMap((sign) => {
    const type = `${sign}${bits}`;
    const [a, d] = [of(bits), result(bits)];
    return [
      ...["add", "sub", "mul.lo", "mul.hi", "div", "rem", "min", "max"].map((op) => simple(`${op}.${type}`, [a, a], d)),
      ...["mad.lo", "mad.hi", "sad"].map((op) => simple(`${op}.${type}`, [a, a, a], d)),
      ...(bits < 64
        ? [
            simple(`mul.wide.${type}`, [a, a], result(2 * bits)),
            simple(`mad.wide.${type}`, [a, a, of(2 * bits)], result(2 * bits)),
          ]
        : []),
      ...(sign === "s" ? [simple(`abs.${type}`, [a], d), simple(`neg.${type}`, [a], d)] : []),
    ];
  }),
);

const saturating = [
  simple("add.sat.s32", ["u32", "u32"], "b32"),
  simple("sub.sat.s32", ["u32", "u32"], "b32"),
  simple("mad.hi.sat.s32", ["u32", "u32", "u32"], "b32"),
  simple("mad24.hi.sat.s32", ["u32", "u32", "u32"], "b32"),
];

const of24 = both.flatMap((sign) =>
  ["lo", "hi"].flatMap((half) => [
    simple(`mul24.${half}.${sign}32`, ["u32", "u32"], "b32"),
    simple(`mad24.${half}.${sign}32`, ["u32", "u32", "u32"], "b32"),
  ]),
);

const dotProducts = both.flatMap((a) =>
  both.flatMap((b) =>
    ["dp4a", "dp2a.lo", "dp2a.hi"].map((op) =>
      simple(`${op}.${a}32.${b}32`, ["bits32", "bits32", "u32"], "b32", { capability: 61 }),
    ),
  ),
);

/** Sums, differences and products of several words: the carry goes from one instruction to the next. */
const carrying = [32, 64].flatMap((bits) => {
  const [a, d] = [of(bits), result(bits)];
  const four = [a, a, a, a];
  const t = bits === 32 ? "u" : "s";
  const type = `${t}${bits}`;
  return [
    snippet(`add.cc.${type} %o0, %i0, %i2; addc.cc.${type} %o1, %i1, %i3; addc.${type} %o2, 0, 0;`, four, [d, d, d], {
      name: `add.cc, addc.cc, addc.${type}`,
    }),
    snippet(`sub.cc.${type} %o0, %i0, %i2; subc.cc.${type} %o1, %i1, %i3; subc.${type} %o2, 0, 0;`, four, [d, d, d], {
      name: `sub.cc, subc.cc, subc.${type}`,
    }),
    snippet(
      `mad.lo.cc.u${bits} %o0, %i0, %i1, %i2; madc.hi.cc.u${bits} %o1, %i0, %i1, %i3; addc.u${bits} %o2, 0, 0;`,
      four,
      [d, d, d],
      { name: `mad.lo.cc, madc.hi.cc.u${bits}` },
    ),
    snippet(`mad.hi.cc.u${bits} %o0, %i0, %i1, %i2; madc.lo.u${bits} %o1, %i2, %i3, %i0;`, four, [d, d], {
      name: `mad.hi.cc, madc.lo.u${bits}`,
    }),
    snippet(`add.cc.u${bits} %o0, %i0, %i1; madc.hi.s${bits} %o1, %i2, %i3, %i0;`, four, [d, d], {
      name: `add.cc, madc.hi.s${bits}`,
    }),
  ];
});

const bits32and64 = [32, 64].flatMap((bits) => {
  const [a, d] = [of(bits), result(bits)];
  return [
    simple(`popc.b${bits}`, [a], "b32"),
    simple(`clz.b${bits}`, [a], "b32"),
    simple(`brev.b${bits}`, [a], d),
    simple(`bfi.b${bits}`, [a, a, "amount", "amount"], d),
    ...both.flatMap((sign) => [
      simple(`bfe.${sign}${bits}`, [a, "amount", "amount"], d),
      simple(`bfind.${sign}${bits}`, [a], "b32"),
      simple(`bfind.shiftamt.${sign}${bits}`, [a], "b32"),
    ]),
  ];
});

const logic = widths.flatMap((bits) => {
  const [a, d] = [of(bits), result(bits)];
  return [
    ...["and", "or", "xor"].map((op) => simple(`${op}.b${bits}`, [a, a], d)),
    ...["not", "cnot"].map((op) => simple(`${op}.b${bits}`, [a], d)),
    simple(`shl.b${bits}`, [a, "amount"], d),
    simple(`shr.b${bits}`, [a, "amount"], d),
    simple(`shr.u${bits}`, [a, "amount"], d),
    simple(`shr.s${bits}`, [a, "amount"], d),
    ...[1, bits - 1, bits, bits + 1].flatMap((n) => [
      snippet(`shl.b${bits} %o0, %i0, ${n};`, [a], d, { name: `shl.b${bits} by ${n}` }),
      snippet(`shr.s${bits} %o0, %i0, ${n};`, [a], d, { name: `shr.s${bits} by ${n}` }),
    ]),
  ];
});

const funnels = ["l", "r"].flatMap((direction) =>
  ["clamp", "wrap"].map((mode) => simple(`shf.${direction}.${mode}.b32`, ["u32", "u32", "amount"], "b32")),
);

const permutes = [
  simple("prmt.b32", ["bits32", "bits32", "bits32"], "b32"),
  ...["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"].map((mode) =>
    simple(`prmt.b32.${mode}`, ["bits32", "bits32", "bits32"], "b32"),
  ),
  snippet("prmt.b32 %o0, %i0, %i1, 0x9b42;", ["bits32", "bits32"], "b32", { name: "prmt.b32 by 0x9b42" }),
];

const threeInputs = [
  ...[0x00, 0x01, 0x80, 0x96, 0xca, 0xe8, 0x1e, 0xfe, 0xff].map((table) =>
    snippet(`lop3.b32 %o0, %i0, %i1, %i2, ${table};`, ["bits32", "bits32", "u32"], "b32", {
      name: `lop3.b32 0x${table.toString(16)}`,
    }),
  ),
  ...["or", "and"].map((op) =>
    snippet(`lop3.${op}.b32 %o0|%o1, %i0, %i1, %i2, 0x80, %i3;`, ["few32", "few32", "few32", "pred"], ["b32", "pred"], {
      name: `lop3.${op}.b32`,
      capability: 70,
    }),
  ),
];

const extending = ["clamp", "wrap"].flatMap((mode) => [
  simple(`szext.${mode}.u32`, ["u32", "amount"], "b32", { capability: 70 }),
  simple(`szext.${mode}.s32`, ["u32", "amount"], "b32", { capability: 70 }),
  simple(`bmsk.${mode}.b32`, ["amount", "amount"], "b32", { capability: 70 }),
]);

const findNth = snippet(
  "and.b32 %t, %i1, 31; sub.s32 %u, %i2, 8; fns.b32 %o0, %i0, %t, %u;",
  ["bits32", "lane", "lane"],
  "b32",
  { name: "fns.b32" },
);

export const integerCases: readonly InstructionCase[] = [
  ...arithmetic,
  ...saturating,
  ...of24,
  ...dotProducts,
  ...carrying,
  ...bits32and64,
  ...logic,
  ...funnels,
  ...permutes,
  ...threeInputs,
  ...extending,
  findNth,
];
