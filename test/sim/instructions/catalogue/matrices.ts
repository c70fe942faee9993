/** mma of all types and shapes to sm_89, and the moves of its fragments. */
import { type InstructionCase, type Result, snippet } from "../case.ts";
import { type ElementName, elements } from "../fragments.ts";
import { productBound, quarterLayout, warpLayout } from "../products.ts";
import type { Source } from "../sources.ts";
import {
  type Accumulator,
  accumulatorSource,
  layouts,
  list,
  mmaCode,
  normals,
  repeat,
  smalls,
  toShared,
} from "./matrix-operands.ts";

interface FloatForm {
  readonly M: number;
  readonly K: number;
  readonly a: ElementName;
  readonly b: ElementName;
  readonly acc: Accumulator;
  readonly capability: number;
}

const floatForms: FloatForm[] = [
  ...(["f32", "f16"] as const).flatMap((acc) => [
    { M: 16, K: 8, a: "f16" as const, b: "f16" as const, acc, capability: 75 },
    { M: 16, K: 16, a: "f16" as const, b: "f16" as const, acc, capability: 80 },
  ]),
  ...[8, 16].map((K) => ({ M: 16, K, a: "bf16" as const, b: "bf16" as const, acc: "f32" as const, capability: 80 })),
  ...[4, 8].map((K) => ({ M: 16, K, a: "tf32" as const, b: "tf32" as const, acc: "f32" as const, capability: 80 })),
  ...(["e4m3", "e5m2"] as const).flatMap((a) =>
    (["e4m3", "e5m2"] as const).map((b) => ({ M: 16, K: 32, a, b, acc: "f32" as const, capability: 89 })),
  ),
];

const floatProducts = floatForms.flatMap(({ M, K, a, b, acc, capability }) => {
  const { bits } = elements[a];
  const shape = { M, N: 8, K };
  const counts = {
    a: (M * K * bits) / 1024,
    b: (8 * K * bits) / 1024,
    c: (M * 8) / 32 / (acc === "f16" ? 2 : 1),
    d: (M * 8) / 32 / (acc === "f16" ? 2 : 1),
  };
  const text = `mma.sync.aligned.m${M}n8k${K}.row.col.${acc}.${a}.${b}.${acc}`;
  const outputs = repeat<Result>(acc === "f32" ? "f32" : "b32", counts.d);
  const inputs = (table: Record<ElementName, Source>, small: boolean): Source[] => [
    ...repeat(table[a], counts.a),
    ...repeat(table[b], counts.b),
    ...repeat(accumulatorSource(acc, small), counts.c),
  ];
  const bound = productBound({ layout: warpLayout(shape, bits), a, b, c: acc, d: acc, registers: counts });
  return [
    snippet(mmaCode(text, counts), inputs(normals, false), outputs, { capability, bound }),
    snippet(mmaCode(text, counts), inputs(smalls, true), outputs, { capability, name: `${text} of whole numbers` }),
  ];
});

const m16n8k16 = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32";
const halfCounts = { a: 4, b: 2, c: 4, d: 4 };
const moreHalves = [
  snippet(
    mmaCode(m16n8k16, halfCounts),
    [...repeat<Source>("tinyF16x2", 4), ...repeat<Source>("normalF16x2", 2), ...repeat<Source>("zeroF32", 4)],
    repeat<Result>("f32", 4),
    {
      name: `${m16n8k16} of subnormals`,
      capability: 80,
      bound: productBound({
        layout: warpLayout({ M: 16, N: 8, K: 16 }, 16),
        a: "f16",
        b: "f16",
        c: "f32",
        d: "f32",
        registers: halfCounts,
      }),
    },
  ),
  snippet(
    `${mmaCode(m16n8k16, halfCounts).replace(list("o", 0, 4), list("i", 6, 4))} ${[0, 1, 2, 3].map((i) => `mov.f32 %o${i}, %i${6 + i};`).join(" ")}`,
    [...repeat<Source>("smallF16x2", 6), ...repeat<Source>("smallF32", 4)],
    repeat<Result>("f32", 4),
    { name: `${m16n8k16} in place`, capability: 80 },
  ),
];

const quarterProducts = layouts.flatMap(([aLayout, bLayout]) =>
  (
    [
      ["f32", "f32"],
      ["f16", "f16"],
      ["f32", "f16"],
    ] as const
  ).flatMap(([d, c]) => {
    const counts = { a: 2, b: 2, c: c === "f32" ? 8 : 4, d: d === "f32" ? 8 : 4 };
    const text = `mma.sync.aligned.m8n8k4.${aLayout}.${bLayout}.${d}.f16.f16.${c}`;
    const outputs = repeat<Result>(d === "f32" ? "f32" : "b32", counts.d);
    const inputs = (table: Record<ElementName, Source>, small: boolean): Source[] => [
      ...repeat(table.f16, 4),
      ...repeat(accumulatorSource(c, small), counts.c),
    ];
    const layout = quarterLayout(aLayout === "row", bLayout === "row");
    const bound = productBound({ layout, a: "f16", b: "f16", c, d, registers: counts });
    return [
      snippet(mmaCode(text, counts), inputs(normals, false), outputs, { capability: 70, bound }),
      snippet(mmaCode(text, counts), inputs(smalls, true), outputs, {
        capability: 70,
        name: `${text} of whole numbers`,
      }),
    ];
  }),
);

const integerForms = [
  ...["u8", "s8"].flatMap((a) =>
    ["u8", "s8"].flatMap((b) => [
      { M: 8, K: 16, a, b, bits: 8, capability: 75 },
      { M: 16, K: 16, a, b, bits: 8, capability: 80 },
      { M: 16, K: 32, a, b, bits: 8, capability: 80 },
    ]),
  ),
  ...["u4", "s4"].flatMap((a) =>
    ["u4", "s4"].flatMap((b) => [
      { M: 8, K: 32, a, b, bits: 4, capability: 75 },
      { M: 16, K: 32, a, b, bits: 4, capability: 80 },
      { M: 16, K: 64, a, b, bits: 4, capability: 80 },
    ]),
  ),
];

function integerProduct(text: string, M: number, K: number, bits: number, capability: number): InstructionCase {
  const counts = { a: (M * K * bits) / 1024, b: (8 * K * bits) / 1024, c: M / 4, d: M / 4 };
  const inputs: Source[] = [...repeat<Source>("bits32", counts.a + counts.b), ...repeat<Source>("u32", counts.c)];
  return snippet(mmaCode(text, counts), inputs, repeat<Result>("b32", counts.d), { capability });
}

const integerProducts = integerForms.flatMap(({ M, K, a, b, bits, capability }) =>
  ["", ".satfinite"].map((m) =>
    integerProduct(`mma.sync.aligned.m${M}n8k${K}.row.col${m}.s32.${a}.${b}.s32`, M, K, bits, capability),
  ),
);

const bitProducts = (
  [
    [8, 128],
    [16, 128],
    [16, 256],
  ] as const
).flatMap(([M, K]) =>
  ["xor", "and"].map((op) =>
    integerProduct(
      `mma.sync.aligned.m${M}n8k${K}.row.col.s32.b1.b1.s32.${op}.popc`,
      M,
      K,
      1,
      op === "and" || M === 16 ? 80 : 75,
    ),
  ),
);

const doubleProducts = ["", ".rn", ".rz", ".rm", ".rp"].map((mode) =>
  snippet(
    mmaCode(`mma.sync.aligned.m8n8k4.row.col${mode}.f64.f64.f64.f64`, { a: 1, b: 1, c: 2, d: 2 }),
    repeat<Source>(mode === "" ? "f64" : "normalF64", 4),
    ["f64", "f64"],
    { capability: 80 },
  ),
);

const words = (count: number): Source[] => repeat<Source>("bits32", count);
const tile = ".shared .align 128 .b8 tile[2048];";
/** Lanes write 16 bytes each, then %u: the address of some row. */
const rowsInShared = `mov.u64 %x, tile; ${toShared(0, { words: 4, offset: 0 })} bar.warp.sync 0xffffffff; xor.b32 %t, %lane, 11; mul.wide.u32 %y, %t, 16; add.u64 %x, %x, %y;`;
const moves = ["", ".trans"].flatMap((m) => [
  ...[1, 2, 4].map((count) =>
    snippet(
      `${rowsInShared} ldmatrix.sync.aligned.m8n8.x${count}${m}.shared.b16 ${list("o", 0, count)}, [%x];`,
      words(4),
      repeat<Result>("b32", count),
      { name: `ldmatrix.m8n8.x${count}${m}`, capability: 75, declarations: tile, block: 32 },
    ),
  ),
]);
const transposition = snippet("movmatrix.sync.aligned.m8n8.trans.b16 %o0, %i0;", words(1), "b32", { capability: 75 });

export const matrixCases: readonly InstructionCase[] = [
  ...floatProducts,
  ...moreHalves,
  ...quarterProducts,
  ...integerProducts,
  ...bitProducts,
  ...doubleProducts,
  ...moves,
  transposition,
];
