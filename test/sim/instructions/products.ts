import { f16ToNumber } from "../../../src/base/float.ts";
import type { Bound } from "./case.ts";
import {
  type ElementName,
  elements,
  type Place,
  placeOfA,
  placeOfB,
  placeOfC,
  quarterLane,
  type Shape,
} from "./fragments.ts";

interface Layout {
  readonly shape: Shape;
  /** Products that one warp does: 4 for m8n8k4. */
  readonly count: number;
  readonly a: (product: number, row: number, k: number) => Place;
  readonly b: (product: number, k: number, column: number) => Place;
  readonly c: (product: number, row: number, column: number, isPacked: boolean) => Place;
}

export function warpLayout(shape: Shape, bits: number): Layout {
  const perRegister = 32 / bits;
  return {
    shape,
    count: 1,
    a: (_, row, k) => placeOfA(shape, perRegister, row, k),
    b: (_, k, column) => placeOfB(perRegister, k, column),
    c: (_, row, column, isPacked) => placeOfC(row, column, isPacked),
  };
}

/** mma.m8n8k4: rows and columns of A and B as they are stored. */
export function quarterLayout(aByRow: boolean, bByRow: boolean): Layout {
  const of = (product: number, along: number, across: number): Place => ({
    lane: quarterLane(product, along >= 4, across),
    register: 0,
    part: 0,
  });
  const place = (product: number, outer: number, k: number, lanesAreOuter: boolean): Place => {
    const part = lanesAreOuter ? k : outer % 4;
    return {
      ...of(product, outer, lanesAreOuter ? outer % 4 : k),
      register: part >>> 1,
      part: part & 1,
    };
  };
  return {
    shape: { M: 8, N: 8, K: 4 },
    count: 4,
    a: (product, row, k) => place(product, row, k, aByRow),
    b: (product, k, column) => place(product, column, k, !bByRow),
    c: (product, row, column, isPacked) => {
      if (isPacked) return { lane: quarterLane(product, row >= 4, row % 4), register: column >>> 1, part: column & 1 };
      const within = row % 4;
      return {
        lane: quarterLane(product, row >= 4, (within & 1) + (column & 2)),
        register: (column & 4) + (within & 2) + (column & 1),
        part: 0,
      };
    },
  };
}

/** Tiles in memory, for wmma: element (row, column) lies at its index, `words` 32-bit words of each lane side by side. */
export function memoryLayout(shape: Shape, bits: { a: number; b: number }, aByRow: boolean, bByRow: boolean): Layout {
  const at = (index: number, width: number, total: number): Place => {
    const perWord = 32 / width;
    const wordsPerLane = total / perWord / 32;
    const word = Math.floor(index / perWord);
    return { lane: Math.floor(word / wordsPerLane), register: word % wordsPerLane, part: index % perWord };
  };
  const { M, N, K } = shape;
  return {
    shape,
    count: 1,
    a: (_, row, k) => at(aByRow ? row * K + k : k * M + row, bits.a, M * K),
    b: (_, k, column) => at(bByRow ? k * N + column : column * K + k, bits.b, K * N),
    c: (_, row, column, isPacked) => at(row * N + column, isPacked ? 16 : 32, M * N),
  };
}

const view = new DataView(new ArrayBuffer(4));
function accumulator(word: number, part: number, isPacked: boolean): number {
  if (isPacked) return f16ToNumber((word >>> (16 * part)) & 0xffff);
  view.setInt32(0, word);
  return view.getFloat32(0);
}

export interface ProductBound {
  readonly layout: Layout;
  readonly a: ElementName;
  readonly b: ElementName;
  readonly d: "f32" | "f16";
  readonly c: "f32" | "f16";
  /** Inputs that hold A, B and C: so many of each, in this order. */
  readonly registers: { readonly a: number; readonly b: number; readonly c: number };
}

/**
 * The bound on matrix products: |D - exact| <= (K + 2) 2^-23 (|c| + sum of |a b|), and for results in f16 another 2^-10
 * of that. Hardware aligns the products to the largest and cuts each below one unit in the last place of a float, in groups
 * of its own; a loop in float rounds each sum by half a unit.
 */
export function productBound({ layout, a, b, c, d, registers }: ProductBound): Bound {
  const { M, N, K } = layout.shape;
  const unit = (K + 2) * 2 ** -23 + (d === "f16" ? 2 ** -10 : 0) + (d === "f16" && c === "f16" ? K * 2 ** -10 : 0);
  const text = `${unit.toExponential(2)} of |c| + sum |a b|`;
  const read = (arrays: readonly Uint8Array[], first: number, warp: number, { lane, register }: Place): number => {
    const array = arrays[first + register]!;
    return new DataView(array.buffer, array.byteOffset).getInt32(4 * (32 * warp + lane), true);
  };
  const element = (name: ElementName, word: number, part: number): number => {
    const { bits, value } = elements[name];
    return value(bits === 32 ? word : (word >>> (bits * part)) & (2 ** bits - 1));
  };
  return {
    text,
    fault: (inputs, outputs, rows) => {
      for (let warp = 0; warp < rows / 32; warp++) {
        for (let product = 0; product < layout.count; product++) {
          const left = Array.from({ length: M * K }, (_, i) => {
            const place = layout.a(product, Math.floor(i / K), i % K);
            return element(a, read(inputs, 0, warp, place), place.part);
          });
          const right = Array.from({ length: K * N }, (_, i) => {
            const place = layout.b(product, Math.floor(i / N), i % N);
            return element(b, read(inputs, registers.a, warp, place), place.part);
          });
          for (let row = 0; row < M; row++) {
            for (let column = 0; column < N; column++) {
              const of = layout.c(product, row, column, c === "f16");
              const start = accumulator(read(inputs, registers.a + registers.b, warp, of), of.part, c === "f16");
              let exact = start;
              let size = Math.abs(start);
              for (let k = 0; k < K; k++) {
                const term = left[row * K + k]! * right[k * N + column]!;
                exact += term;
                size += Math.abs(term);
              }
              const to = layout.c(product, row, column, d === "f16");
              const found = accumulator(read(outputs, 0, warp, to), to.part, d === "f16");
              if (!(Math.abs(found - exact) <= unit * size))
                return `warp ${warp}, element (${row}, ${column}) is ${found}, exactly ${exact}, allowed ${text}`;
            }
          }
        }
      }
      return undefined;
    },
  };
}
