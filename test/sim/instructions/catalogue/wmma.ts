/** wmma: matrices from shared memory, their product, and back. */
import { type InstructionCase, type Result, snippet } from "../case.ts";
import { type ElementName, elements } from "../fragments.ts";
import { memoryLayout, productBound } from "../products.ts";
import type { Source } from "../sources.ts";
import { accumulatorSource, layouts, list, normals, repeat, smalls, type Tile, toShared } from "./matrix-operands.ts";

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

export const wmmaCases: readonly InstructionCase[] = [
  ...wmmaForms.flatMap((form) => [...wmma(form, false), ...wmma(form, true)]),
  ...integerWmma.flatMap((form) =>
    wmma(form, true).map((instruction) => ({
      ...instruction,
      name: instruction.name.replace(" of whole numbers", ""),
    })),
  ),
];
