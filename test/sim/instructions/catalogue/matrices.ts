/** Matrix instructions: mma and wmma of all types and shapes to sm_89, and the moves of their fragments. */
import { type InstructionCase, type Result, snippet } from "../case.ts";
import { type ElementName, elements } from "../fragments.ts";
import type { Source } from "../operands.ts";
import { memoryLayout, productBound, quarterLayout, warpLayout } from "../products.ts";

type Accumulator = "f32" | "f16";

const normals: Record<ElementName, Source> = {
  f16: "normalF16x2",
  bf16: "normalBf16x2",
  tf32: "normalTf32",
  e4m3: "normalE4m3x4",
  e5m2: "normalE5m2x4",
};
/** Whole numbers, so that every order of the sums is exact, with an infinity or NaN here and there. */
const smalls: Record<ElementName, Source> = {
  f16: "smallF16x2",
  bf16: "smallBf16x2",
  tf32: "smallTf32",
  e4m3: "smallE4m3x4",
  e5m2: "smallE5m2x4",
};
const accumulatorSource = (type: Accumulator, small: boolean): Source =>
  type === "f32" ? (small ? "smallF32" : "normalF32") : small ? "smallF16x2" : "normalF16x2";

function list(prefix: string, from: number, count: number): string {
  return `{${Array.from({ length: count }, (_, i) => `%${prefix}${from + i}`).join(", ")}}`;
}

/** D, A, B, C in braces: inputs are numbered through. */
function mmaCode(text: string, counts: { a: number; b: number; c: number; d: number }): string {
  const { a, b, c, d } = counts;
  return `${text} ${list("o", 0, d)}, ${list("i", 0, a)}, ${list("i", a, b)}, ${list("i", a + b, c)};`;
}

function repeat<T>(value: T, count: number): T[] {
  return Array<T>(count).fill(value);
}

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

const layouts = ["row", "col"].flatMap((a) => ["row", "col"].map((b) => [a, b] as const));

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

/** `.shared` bytes of a matrix per operand, and the address of each. */
interface Tile {
  readonly words: number;
  readonly offset: number;
}

/** Lanes write their registers of an operand side by side to shared memory. */
function toShared(first: number, { words, offset }: Tile): string {
  const stores = Array.from({ length: words }, (_, i) => `st.shared.b32 [%y+${offset + 4 * i}], %i${first + i};`);
  return `mul.wide.u32 %y, %lane, ${4 * words}; add.u64 %y, %y, %x; ${stores.join(" ")}`;
}

interface WmmaForm {
  readonly shape: { readonly M: number; readonly N: number; readonly K: number };
  /** In loads and the product: f16, s8; and element bits. */
  readonly type: string;
  readonly bits: number;
  readonly acc: "f32" | "f16" | "s32" | "f64";
  readonly capability: number;
  /** Registers of the fragments. */
  readonly fragments: { readonly a: number; readonly b: number; readonly c: number };
  readonly layouts: readonly (readonly [string, string])[];
  readonly product: (aLayout: string, bLayout: string, shape: string) => string;
  readonly register: "b32" | "f32" | "f64";
}

function wmma(form: WmmaForm, small: boolean): InstructionCase[] {
  const { shape, type, bits, acc, capability, fragments, register } = form;
  const { M, N, K } = shape;
  const accBits = { f32: 32, f16: 16, s32: 32, f64: 64 }[acc];
  const words = (elements: number, width: number): number => (elements * width) / 1024;
  const a = { words: words(M * K, bits), offset: 0 };
  const b = { words: words(K * N, bits), offset: 128 * a.words };
  const c = { words: words(M * N, accBits), offset: b.offset + 128 * b.words };
  const shapeText = `m${M}n${N}k${K}`;
  return form.layouts.map(([aLayout, bLayout]) => {
    const strides = [aLayout === "row" ? K : M, bLayout === "row" ? N : K, N];
    const load = (
      what: string,
      layout: string,
      of: string,
      tile: Tile,
      count: number,
      stride: number,
      prefix: string,
    ): string =>
      `wmma.load.${what}.sync.aligned.${layout}.${shapeText}.shared.${of} ${list(prefix, 0, count)}, [%x+${tile.offset}], ${stride};`;
    const product = form.product(aLayout, bLayout, shapeText);
    const code = [
      "mov.u64 %x, tile;",
      toShared(0, a),
      toShared(a.words, b),
      toShared(a.words + b.words, c),
      "bar.warp.sync 0xffffffff;",
      load("a", aLayout, type, a, fragments.a, strides[0]!, "fa"),
      load("b", bLayout, type, b, fragments.b, strides[1]!, "fb"),
      load("c", "row", acc, c, fragments.c, strides[2]!, "fc"),
      `${product} ${list("fd", 0, fragments.c)}, ${list("fa", 0, fragments.a)}, ${list("fb", 0, fragments.b)}, ${list("fc", 0, fragments.c)};`,
      "bar.warp.sync 0xffffffff;",
      `wmma.store.d.sync.aligned.row.${shapeText}.shared.${acc} [%x+${c.offset}], ${list("fd", 0, fragments.c)}, ${N};`,
      "bar.warp.sync 0xffffffff;",
      `mul.wide.u32 %y, %lane, ${4 * c.words}; add.u64 %y, %y, %x;`,
      ...Array.from({ length: c.words }, (_, i) => `ld.shared.b32 %o${i}, [%y+${c.offset + 4 * i}];`),
    ].join(" ");
    const isFloat = type in elements;
    const element = type as ElementName;
    const sourceOf = (): Source => (isFloat ? (small ? smalls : normals)[element] : "bits32");
    const accSource = (): Source =>
      acc === "s32"
        ? "u32"
        : acc === "f64"
          ? "bits32"
          : acc === "f32"
            ? small
              ? "smallTf32"
              : "normalTf32"
            : accumulatorSource("f16", small);
    const operandRegister = register;
    const accRegister = acc === "f64" ? "f64" : acc === "f32" ? "f32" : "b32";
    return snippet(
      code,
      [...repeat(sourceOf(), a.words + b.words), ...repeat(accSource(), c.words)],
      repeat<Result>("b32", c.words),
      {
        name: `${product}${small ? " of whole numbers" : ""}`,
        capability,
        block: 32,
        declarations: `.shared .align 128 .b8 tile[${c.offset + 128 * c.words}];
.reg .${operandRegister} %fa<${fragments.a}>, %fb<${fragments.b}>;
.reg .${accRegister} %fc<${fragments.c}>, %fd<${fragments.c}>;`,
        bound:
          isFloat && !small && (acc === "f32" || acc === "f16")
            ? productBound({
                layout: memoryLayout(shape, { a: bits, b: bits }, aLayout === "row", bLayout === "row"),
                a: element,
                b: element,
                c: acc,
                d: acc,
                registers: { a: a.words, b: b.words, c: c.words },
              })
            : undefined,
      },
    );
  });
}

const shapes16 = [
  { M: 16, N: 16, K: 16 },
  { M: 32, N: 8, K: 16 },
  { M: 8, N: 32, K: 16 },
];

const wmmaForms: WmmaForm[] = [
  ...shapes16.flatMap((shape) =>
    (["f32", "f16"] as const).map((acc) => ({
      shape,
      type: "f16",
      bits: 16,
      acc,
      capability: 70,
      fragments: { a: 8, b: 8, c: acc === "f32" ? 8 : 4 },
      layouts: shape.M === 16 ? layouts : ([["row", "col"]] as const),
      product: (a: string, b: string, s: string) => `wmma.mma.sync.aligned.${a}.${b}.${s}.${acc}.${acc}`,
      register: "b32" as const,
    })),
  ),
  ...shapes16.map((shape) => ({
    shape,
    type: "bf16",
    bits: 16,
    acc: "f32" as const,
    capability: 80,
    fragments: { a: shape.M / 4, b: shape.N / 4, c: 8 },
    layouts: shape.M === 16 ? layouts : ([["col", "row"]] as const),
    product: (a: string, b: string, s: string) => `wmma.mma.sync.aligned.${a}.${b}.${s}.f32.bf16.bf16.f32`,
    register: "b32" as const,
  })),
  {
    shape: { M: 16, N: 16, K: 8 },
    type: "tf32",
    bits: 32,
    acc: "f32",
    capability: 80,
    fragments: { a: 4, b: 4, c: 8 },
    layouts,
    product: (a, b, s) => `wmma.mma.sync.aligned.${a}.${b}.${s}.f32.tf32.tf32.f32`,
    register: "b32",
  },
];

const integerWmma: WmmaForm[] = [
  ...shapes16.flatMap((shape) =>
    ["u8", "s8"].flatMap((type) =>
      ["", ".satfinite"].map((m) => ({
        shape,
        type,
        bits: 8,
        acc: "s32" as const,
        capability: 72,
        fragments: { a: shape.M / 8, b: shape.N / 8, c: 8 },
        layouts: shape.M === 16 && m === "" ? layouts : ([["row", "col"]] as const),
        product: (a: string, b: string, s: string) =>
          `wmma.mma.sync.aligned.${a}.${b}.${s}.s32.${type}.${type}.s32${m}`,
        register: "b32" as const,
      })),
    ),
  ),
  ...["u4", "s4"].map((type) => ({
    shape: { M: 8, N: 8, K: 32 },
    type,
    bits: 4,
    acc: "s32" as const,
    capability: 75,
    fragments: { a: 1, b: 1, c: 2 },
    layouts: [["row", "col"]] as const,
    product: (a: string, b: string, s: string) => `wmma.mma.sync.aligned.${a}.${b}.${s}.s32.${type}.${type}.s32`,
    register: "b32" as const,
  })),
  ...["xor", "and"].map((op) => ({
    shape: { M: 8, N: 8, K: 128 },
    type: "b1",
    bits: 1,
    acc: "s32" as const,
    capability: op === "and" ? 80 : 75,
    fragments: { a: 1, b: 1, c: 2 },
    layouts: [["row", "col"]] as const,
    product: (a: string, b: string, s: string) => `wmma.mma.${op}.popc.sync.aligned.${a}.${b}.${s}.s32.b1.b1.s32`,
    register: "b32" as const,
  })),
];

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
  ...wmmaForms.flatMap((form) => [...wmma(form, false), ...wmma(form, true)]),
  ...integerWmma.flatMap((form) =>
    wmma(form, true).map((c) => ({ ...c, name: c.name.replace(" of whole numbers", "") })),
  ),
  ...moves,
  transposition,
];
