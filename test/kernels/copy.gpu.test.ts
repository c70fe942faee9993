import { expect, test } from "vitest";
import { bfloat16, bool, type DType, float16, float32, int32, int64, uint8 } from "../../src/base/dtype.ts";
import { decodeElement, encodeElement } from "../../src/base/element.ts";
import { contiguousStrides, elementCount } from "../../src/base/shape.ts";
import { type DevicePtr, ptrAdd } from "../../src/driver/api.ts";
import { cast, copy } from "../../src/kernels/copy/copy.ts";
import { describeGpu, output, randomArray, upload } from "../support/gpu.ts";

/** Calls `visit` with the offsets of each element in two views, in row-major order. */
function walk(
  shape: readonly number[],
  a: readonly number[],
  b: readonly number[],
  visit: (a: number, b: number) => void,
): void {
  const step = (d: number, at: number, bt: number): void => {
    if (d === shape.length) visit(at, bt);
    else for (let i = 0; i < shape[d]!; i++) step(d + 1, at + i * a[d]!, bt + i * b[d]!);
  };
  step(0, 0, 0);
}

function permuted(shape: readonly number[], order: readonly number[]) {
  const base = contiguousStrides(shape);
  return { shape: order.map((d) => shape[d]!), strides: order.map((d) => base[d]!) };
}

const views: [string, { shape: number[]; strides: number[]; offset?: number; span: number }][] = [
  ["contiguous", { shape: [3, 5, 7], strides: [35, 7, 1], span: 105 }],
  ["one element", { shape: [1], strides: [1], span: 1 }],
  ["a transpose", { ...permuted([67, 131], [1, 0]), span: 67 * 131 }],
  ["a batched transpose", { ...permuted([5, 40, 3, 33], [2, 0, 3, 1]), span: 5 * 40 * 3 * 33 }],
  ["permuted heads", { ...permuted([7, 4, 64], [1, 0, 2]), span: 7 * 4 * 64 }],
  ["a slice of columns", { shape: [9, 24], strides: [40, 1], offset: 8, span: 9 * 40 }],
  ["an odd slice of columns", { shape: [9, 23], strides: [41, 1], offset: 3, span: 9 * 41 + 3 }],
  ["every third element", { shape: [101], strides: [3], span: 303 }],
  ["a repeated row", { shape: [11, 16], strides: [0, 1], span: 16 }],
  ["a repeated column", { shape: [11, 16], strides: [1, 0], span: 11 }],
  ["six dimensions", { ...permuted([2, 3, 2, 5, 3, 4], [5, 3, 1, 0, 4, 2]), span: 720 }],
  ["huge strides", { shape: [3, 2, 5], strides: [400_000, 123_457, 1001], span: 1_000_000 }],
];

describeGpu("copy", (device) => {
  for (const dtype of [float32, bfloat16, int64, uint8]) {
    test.each(views)(`${dtype.name}: %s becomes contiguous`, (_, { shape, strides, offset = 0, span }) => {
      const x = randomArray(dtype, span, 11);
      const count = elementCount(shape);
      const out = output(device, dtype, count);
      const expected = dtype.array(count) as { [i: number]: number | bigint };
      const outStrides = contiguousStrides(shape);
      walk(shape, outStrides, strides, (to, from) => {
        expected[to] = x[from + offset]!;
      });
      const ptr = ptrAdd(upload(device, x), offset * dtype.bytes);
      copy(device.stream, { out: out.ptr, outDType: dtype, outStrides, x: ptr, dtype, strides, shape });
      expect(out.stored()).toEqual(expected);
    });
  }

  test("writes through strides and leaves the gaps alone", () => {
    const shape = [33, 17];
    const outStrides = [1, 40];
    const before = randomArray(float32, 17 * 40, 3);
    const x = randomArray(float32, 33 * 17, 4);
    const out = output(device, float32, before.length, before);
    const expected = before.slice();
    walk(shape, outStrides, [17, 1], (to, from) => {
      expected[to] = x[from]!;
    });
    copy(device.stream, {
      out: out.ptr,
      outDType: float32,
      outStrides,
      x: upload(device, x),
      dtype: float32,
      strides: [17, 1],
      shape,
    });
    expect(out.stored()).toEqual(expected);
  });

  test("an empty view touches nothing", () => {
    const out = output(device, float32, 4, Float32Array.of(1, 2, 3, 4));
    const view = { outStrides: [4, 1], strides: [4, 1], shape: [0, 4] };
    copy(device.stream, { out: out.ptr, outDType: float32, x: 0n as DevicePtr, dtype: float32, ...view });
    expect([...out.stored()]).toEqual([1, 2, 3, 4]);
  });
});

const types = [float32, float16, bfloat16, int32, int64, uint8, bool];

/** What a cast gives, bit for bit: integers by way of float32 into floats, towards zero out of them, low bits kept. */
function converted(from: DType, to: DType, stored: number | bigint): number | bigint {
  if (to === bool) return decodeElement(from, stored) !== 0 ? 1 : 0;
  if (to.isFloat) return encodeElement(to, Math.fround(decodeElement(from, stored)));
  const whole = from.isFloat ? BigInt(Math.trunc(decodeElement(from, stored))) : BigInt(stored);
  if (to === int64) return BigInt.asIntN(64, whole);
  return to === int32 ? Number(BigInt.asIntN(32, whole)) : Number(BigInt.asUintN(8, whole));
}

describeGpu("cast", (device) => {
  for (const from of types) {
    for (const to of types.filter((t) => t !== from)) {
      test.each([1, 255, 4099])(`${from.name} to ${to.name} x %i`, (count) => {
        const x = randomArray(from, count, count);
        const out = output(device, to, count);
        cast(device.stream, { out: out.ptr, outDType: to, x: upload(device, x), dtype: from, count });
        const expected = Array.from(x as ArrayLike<number | bigint>, (v) => converted(from, to, v));
        expect([...out.stored()]).toEqual(expected);
      });
    }
  }

  test("rounds to nearest even at every boundary of bfloat16 and float16", () => {
    const bits = new Uint32Array(65536);
    for (let i = 0; i < bits.length; i++) bits[i] = (0x3f80_0000 + i * 97 + (i % 3) * 0x7fff) >>> 0;
    const x = new Float32Array(bits.buffer);
    const special = [
      Number.NaN,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
      65519.99,
      65520,
      3.4e38,
      1e-45,
      -0,
    ];
    x.set(special);
    for (const to of [bfloat16, float16]) {
      const out = output(device, to, x.length);
      cast(device.stream, { out: out.ptr, outDType: to, x: upload(device, x), dtype: float32, count: x.length });
      expect([...out.stored()]).toEqual(Array.from(x, (v) => encodeElement(to, v)));
    }
  });

  test("a strided view", () => {
    const x = randomArray(float32, 40 * 30, 5);
    const out = output(device, bfloat16, 1200);
    const view = { shape: [30, 40], strides: [1, 30], outStrides: [40, 1] };
    copy(device.stream, { out: out.ptr, outDType: bfloat16, x: upload(device, x), dtype: float32, ...view });
    const expected = new Uint16Array(1200);
    walk(view.shape, view.outStrides, view.strides, (to, from) => {
      expected[to] = Number(encodeElement(bfloat16, Number(x[from])));
    });
    expect(out.stored()).toEqual(expected);
  });
});
