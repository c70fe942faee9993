import { memoryMap } from "../memory-map.ts";
import type { Instruction, Operand } from "../ptx/ast.ts";
import { Code } from "../wasm/code.ts";

/** mma.m16n8k8 and m16n8k16 with float sums, by the type of the factors: what kernels use most. */
export const matrixProducts = ["f16k8", "f16k16", "bf16k8", "bf16k16"] as const;
export type MatrixProduct = (typeof matrixProducts)[number];

/** The product that an instruction is, of those that there is code for. */
export function matrixProductOf({ name, modifiers, operands }: Instruction): MatrixProduct | undefined {
  if (name !== "mma" || !modifiers.includes("row") || !modifiers.includes("col")) return undefined;
  const shape = modifiers.map((m) => /^m16n8k(8|16)$/.exec(m)).find((m) => m !== null);
  const [d, a, b, c] = modifiers.slice(-4);
  if (!shape || modifiers.includes("sp") || d !== "f32" || c !== "f32" || a !== b) return undefined;
  const wanted = [4, Number(shape[1]) / 4, Number(shape[1]) / 8, 4];
  if (!operands.every((operand, i) => operand.kind === "vector" && operand.items.length === wanted[i]))
    return undefined;
  if (!operands.every((operand) => (operand as Operand & { kind: "vector" }).items.every((i) => i.kind === "register")))
    return undefined;
  return matrixProducts.find((product) => product === `${a}k${shape[1]}`);
}

export function matrixProductCode(product: MatrixProduct): Code {
  const [type, K] = product.split("k") as ["f16" | "bf16", string];
  return code(type, Number(K) as 8 | 16);
}

/**
 * D = A B + C on fragments in a warp's area; parameters are the addresses of their registers in order. Four lanes of a
 * register are four pairs of one row of A (or one column of B): the pairs' lower and upper halves become two vectors,
 * which orders the inner index as 0 2 4 6 1 3 5 7; B is stored in the same order, its columns as C has them in its two
 * registers, 0 2 4 6 and 1 3 5 7. Two rows at a time, so that the additions of one do not wait for each other. Sums are rounded
 * to float after each product.
 *
 * The padding of small batches costs little: rows of A that are zero leave C as it is when B is finite, and so do columns
 * 1 3 5 7 of B when A is.
 */
function code(type: "f16" | "bf16", K: 8 | 16): Code {
  const groups = K / 8;
  const c = new Code(Array<"i32">(2 * groups + groups + 8).fill("i32"));
  const aAt = (r: number) => r;
  const bAt = (r: number) => 2 * groups + r;
  const cAt = (r: number) => 3 * groups + r;
  const dAt = (r: number) => 3 * groups + 4 + r;
  const [word, x, magnitude] = [c.local("v128"), c.local("v128"), c.local("v128")];
  const [seen, special] = [c.local("v128"), c.local("v128")];
  const [finiteB, wholeB] = [c.local("i32"), c.local("i32")];
  const row = c.local("i32");

  const exponents = type === "f16" ? 0x7c007c00 : 0x7f807f80;
  /** Collects in `special` which of the halves of `word` are infinite or NaN. */
  const noteSpecial = (): void => {
    c.get(special).get(word).i32(exponents).vector("i32x4_splat").vector("v128_and");
    c.i32(exponents).vector("i32x4_splat").vector("i16x8_eq").vector("v128_or").set(special);
  };
  const clear = (local: number) => c.i32(0).vector("i32x4_splat").set(local);

  /** The lower or upper halves of `word` as floats. */
  const halves = (upper: boolean): void => {
    if (type === "bf16") {
      c.get(word);
      if (upper)
        c.i32(0xffff0000 | 0)
          .vector("i32x4_splat")
          .vector("v128_and");
      else c.i32(16).vector("i32x4_shl");
      return;
    }
    c.get(word);
    if (upper) c.i32(16).vector("i32x4_shr_u");
    c.set(x);
    c.get(x).i32(0x7fff).vector("i32x4_splat").vector("v128_and").i32(13).vector("i32x4_shl").set(magnitude);
    // Infinity and NaN keep all their bits and get the largest exponent; the rest is 2^112 too small.
    c.get(magnitude).f32(0x77800000n).vector("f32x4_splat").vector("f32x4_mul");
    c.get(magnitude).i32(0x0f800000).vector("i32x4_splat").vector("v128_and").i32(0x0f800000).vector("i32x4_splat");
    c.vector("i32x4_eq").i32(0x7f800000).vector("i32x4_splat").vector("v128_and").vector("v128_or");
    c.get(x).i32(0x8000).vector("i32x4_splat").vector("v128_and").i32(16).vector("i32x4_shl").vector("v128_or");
  };

  const value = c.local("v128");
  clear(special);
  clear(seen);
  for (let r = 0; r < groups; r++) {
    for (let n = 0; n < 8; n++) {
      c.get(bAt(r))
        .vector("v128_load", 16 * n)
        .set(word);
      noteSpecial();
      if (n % 2 === 1) c.get(seen).get(word).vector("v128_or").set(seen);
      for (const upper of [false, true]) {
        halves(upper);
        c.set(value);
        const column = n % 2 === 0 ? n / 2 : 4 + (n - 1) / 2;
        for (let t = 0; t < 4; t++) {
          const slot = 8 * r + (upper ? 4 : 0) + t;
          c.base()
            .get(value)
            .vector("v128_store32_lane", memoryMap.matrix + 32 * slot + 4 * column, t);
        }
      }
    }
  }
  c.get(special).vector("v128_any_true").op("i32_eqz").set(finiteB);
  c.get(seen).vector("v128_any_true").set(wholeB);

  const bands = [0, 1].map((band) => ({
    band,
    words: Array.from({ length: groups }, () => c.local("v128")),
    factors: Array.from({ length: 2 * groups }, () => c.local("v128")),
    sums: [c.local("v128"), c.local("v128")] as const,
  }));
  const scale = c.local("v128");
  const at = (local: number) => c.get(local).get(row).op("i32_add");
  /** Adds the products of both rows to their sums: of columns 0 2 4 6 (0), and of 1 3 5 7 (1). */
  const addProducts = (halvesOfB: readonly (0 | 1)[]): void => {
    for (let slot = 0; slot < K; slot++) {
      for (const { factors, sums } of bands) {
        c.get(factors[slot >>> 2]!)
          .vector("f32x4_extract_lane", slot & 3)
          .vector("f32x4_splat")
          .set(scale);
        for (const half of halvesOfB) {
          c.get(sums[half])
            .get(scale)
            .base()
            .vector("v128_load", memoryMap.matrix + 32 * slot + 16 * half);
          c.vector("f32x4_mul").vector("f32x4_add").set(sums[half]);
        }
      }
    }
  };

  c.block("loop");
  clear(seen);
  clear(special);
  for (const { band, words, sums } of bands) {
    words.forEach((own, r) => {
      at(aAt(band + 2 * r))
        .vector("v128_load", 0)
        .set(own);
      c.get(seen).get(own).vector("v128_or").set(seen);
    });
    sums.forEach((sum, half) => {
      at(cAt(2 * band + half))
        .vector("v128_load", 0)
        .set(sum);
    });
  }
  c.get(seen).vector("v128_any_true").get(finiteB).op("i32_eqz", "i32_or").block("if");
  for (const { words, factors } of bands) {
    words.forEach((own, r) => {
      c.get(own).set(word);
      noteSpecial();
      halves(false);
      c.set(factors[2 * r]!);
      halves(true);
      c.set(factors[2 * r + 1]!);
    });
  }
  c.get(wholeB).get(special).vector("v128_any_true").op("i32_or").block("if");
  addProducts([0, 1]);
  c.else();
  addProducts([0]);
  c.end().end();
  for (const { band, sums } of bands) {
    sums.forEach((sum, half) => {
      // NaN is the canonical one.
      at(dAt(2 * band + half))
        .i32(0x7fffffff)
        .vector("i32x4_splat")
        .get(sum);
      c.get(sum).get(sum).vector("f32x4_ne").vector("v128_bitselect").vector("v128_store", 0);
    });
  }
  c.get(row).i32(16).op("i32_add").tee(row).i32(128).op("i32_lt_u").brIf(0).end();
  return c;
}
