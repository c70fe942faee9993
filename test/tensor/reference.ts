import { afterEach, beforeEach, expect } from "vitest";
import type { DType } from "../../src/base/dtype.ts";
import { decodeArray } from "../../src/base/element.ts";
import { elementCount, type Shape } from "../../src/base/shape.ts";
import type { Device } from "../../src/driver/device.ts";
import { HostTensor } from "../../src/tensor/host-tensor.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { randomArray } from "../support/numerics.ts";

/** Every index of a shape, in row-major order. */
export function indices(shape: Shape): number[][] {
  let all: number[][] = [[]];
  for (const size of shape) all = all.flatMap((index) => Array.from({ length: size }, (_, i) => [...index, i]));
  return all;
}

/** An array on the host, in float64: what references compute with. */
export interface Reference {
  readonly shape: Shape;
  readonly values: Float64Array;
}

export function reference(shape: Shape, at: (index: readonly number[]) => number): Reference {
  return { shape, values: Float64Array.from(indices(shape), at) };
}

/** The element at an index of a shape that `from` broadcasts to. */
export function element(from: Reference, index: readonly number[]): number {
  const lead = index.length - from.shape.length;
  let at = 0;
  for (const [d, size] of from.shape.entries()) at = at * size + (size === 1 ? 0 : index[d + lead]!);
  return from.values[at]!;
}

/** The numbers that a tensor holds on the device. */
export function numbers(x: Tensor): Float64Array {
  const host = x.cpu();
  return decodeArray(host.dtype, host.data);
}

/** How an operand lies in memory. */
export const layouts = ["contiguous", "transposed", "stepped", "unaligned", "wide"] as const;
export type LayoutName = (typeof layouts)[number];

/** A tensor of random numbers in a layout, and the same numbers on the host. */
export function operand(
  device: Device,
  dtype: DType,
  shape: Shape,
  layout: LayoutName,
  seed: number,
): { x: Tensor; ref: Reference } {
  const rank = shape.length;
  const last = rank - 1;
  const make = (base: Shape, view: (base: Tensor) => Tensor) => {
    const host = new HostTensor(randomArray(dtype, elementCount(base), seed), base, dtype);
    using whole = Tensor.from(host, { device });
    const x = view(whole);
    const stored = decodeArray(dtype, host.data);
    const ref = reference(shape, (index) => stored[index.reduce((sum, i, d) => sum + i * x.strides[d]!, x.offset)]!);
    return { x, ref };
  };
  if (layout === "transposed" && rank > 1) {
    const reversed = Array.from({ length: rank }, (_, i) => last - i);
    return make(shape.toReversed(), (base) => base.permute(reversed));
  }
  if (layout === "stepped" && rank > 0) {
    return make(shape.with(-1, 2 * shape[last]! + 1), (base) => base.slice(-1, 1, undefined, 2));
  }
  if (layout === "unaligned") {
    const size = elementCount(shape);
    return make([size + 1], (base) => {
      using part = base.narrow(0, 1, size);
      return part.view(shape);
    });
  }
  if (layout === "wide" && rank > 1) {
    return make(shape.with(-1, shape[last]! + 4099), (base) => base.narrow(-1, 17, shape[last]!));
  }
  return make(shape, (base) => base.alias(base));
}

/** Around each test of a suite: unwritten elements show as NaN, and no buffer is left over. */
export function watchMemory(device: Device): void {
  let live = 0;
  beforeEach(() => {
    live = device.memory.statistics().liveBuffers;
    poisonCache(device);
  });
  afterEach(() => expect(device.memory.statistics().liveBuffers).toBe(live));
}

/** Fills memory that the pool hands out next with NaN bits, so that an element that is not written shows. */
function poisonCache(device: Device): void {
  const sizes = [512, 512, 1024, 4096, 65536, 1 << 20, 1 << 20, 4 << 20, 8 << 20, 30 << 20];
  const buffers = sizes.map((bytes) => device.allocate(bytes));
  for (const buffer of buffers) {
    device.stream.fill8(buffer.ptr, 0xff, buffer.bytes);
    buffer.dispose();
  }
}

/** The error function, by its series below 3 and by its continued fraction above: close to full float64 precision. */
export function erf(x: number): number {
  const a = Math.abs(x);
  if (a > 6) return Math.sign(x);
  if (a < 3) {
    let term = a;
    let sum = a;
    for (let n = 1; Math.abs(term) > 1e-18 * sum; n++) {
      term *= (-a * a) / n;
      sum += term / (2 * n + 1);
    }
    return Math.sign(x) * (2 / Math.sqrt(Math.PI)) * sum;
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (a + fraction);
  return Math.sign(x) * (1 - Math.exp(-a * a) / Math.sqrt(Math.PI) / (a + fraction));
}
