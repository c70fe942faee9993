/** Random inputs and error measures; no GPU needed. */

import type { DType, HostArray } from "../../src/base/dtype.ts";
import { decodeArray, encodeArray } from "../../src/base/element.ts";

/** A small seeded generator (mulberry32): the same numbers on every machine, in [0, 1). */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Standard normal numbers. */
export function normals(count: number, seed: number): Float64Array {
  const next = random(seed);
  return Float64Array.from(
    { length: count },
    () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next()),
  );
}

/**
 * Normal numbers, rounded to the dtype, with awkward ones among them: zeros of both signs, ones, tiny and largish values,
 * and numbers just off a rounding step. Integers are uniform in -100 … 100 (uint8 0 … 200; bool 0 or 1).
 */
export function randomArray(dtype: DType, count: number, seed: number): HostArray {
  if (!dtype.isFloat) {
    const next = random(seed);
    const low = dtype.bytes === 1 ? 0 : -100;
    const span = dtype.name === "bool" ? 2 : 201;
    return encodeArray(
      dtype,
      Float64Array.from({ length: count }, () => low + Math.floor(next() * span)),
    );
  }
  const values = normals(count, seed);
  const awkward = [0, -0, 1, -1, 6.1e-5, -3e-8, 60, -47.5, 1 + 2 ** -8, 1 + 3 * 2 ** -9];
  for (let i = 0; i < count; i += 37) values[i] = awkward[(i / 37) % awkward.length]!;
  return encodeArray(dtype, values);
}

/** The numbers that a dtype's elements stand for, in float64: what a reference computes with. */
export function toNumbers(dtype: DType, array: HostArray): Float64Array {
  return decodeArray(dtype, array);
}

/** ‖actual − expected‖ / ‖expected‖; infinity when an element is not finite where the reference is. */
export function relativeL2(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) throw new Error(`lengths differ: ${actual.length} and ${expected.length}`);
  let error = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i]!;
    const e = expected[i]!;
    if (Object.is(a, e) || (a === e && !Number.isFinite(e)) || (Number.isNaN(a) && Number.isNaN(e))) {
      if (Number.isFinite(e)) norm += e * e;
      continue;
    }
    if (!Number.isFinite(a) || !Number.isFinite(e)) return Number.POSITIVE_INFINITY;
    error += (a - e) ** 2;
    norm += e * e;
  }
  return error === 0 ? 0 : Math.sqrt(error / (norm || 1));
}

/**
 * A bound on the relative L2 error of a result that is computed in float32 and rounded `steps` times to `dtype`: one unit
 * in the last place each time, 2^-10 for f16, 2^-7 for bf16 (twice what rounding to nearest can do). For f32 it is 2^-20,
 * since there the arithmetic's own error counts: fused and reordered operations, and approximate functions of 2 ulp.
 */
export function roundingTolerance(dtype: DType, steps = 1): number {
  const units: Partial<Record<DType["name"], number>> = { float32: 2 ** -20, float16: 2 ** -10, bfloat16: 2 ** -7 };
  return (units[dtype.name] ?? 0) * steps;
}

/** The bytes of an array, for comparisons bit for bit: as numbers, NaN differs from itself in some test runners. */
export function bits(array: HostArray): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}
