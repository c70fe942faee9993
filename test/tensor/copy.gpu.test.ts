import { expect, test } from "vitest";
import { bfloat16, bool, type DType, float16, float32, int32, int64, uint8 } from "../../src/base/dtype.ts";
import { decodeElement, encodeElement } from "../../src/base/element.ts";
import type { Shape } from "../../src/base/shape.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { tidy } from "../../src/tensor/tidy.ts";
import { describeGpu } from "../support/gpu.ts";
import { element, layouts, numbers, operand, reference, watchMemory } from "./reference.ts";

const dtypes = [float32, float16, bfloat16, int32, int64, uint8, bool];
const shapes: Shape[] = [[], [1], [0], [7], [3, 5], [129, 67], [2, 3, 4], [0, 3], [2, 1, 3, 2], [2, 1, 2, 1, 2, 3]];

describeGpu("copies and conversions", (device) => {
  watchMemory(device);

  test.each(dtypes.map((dtype) => [dtype.name, dtype] as const))(
    "contiguous and clone keep every bit, %s",
    (_, dtype) => {
      for (const shape of shapes) {
        for (const layout of layouts) {
          tidy(() => {
            const { x, ref } = operand(device, dtype, shape, layout, 1);
            for (const copy of [x.contiguous(), x.clone()]) {
              expect(copy.shape).toEqual(shape);
              expect(copy.isContiguous).toBe(true);
              expect(numbers(copy)).toEqual(ref.values);
            }
            expect(x.clone().storage === x.storage).toBe(false);
            expect(numbers(x)).toEqual(ref.values);
          });
        }
      }
    },
  );

  test("contiguous shares memory when there is nothing to do", () => {
    tidy(() => {
      const x = Tensor.zeros([3, 4], { device });
      expect(x.contiguous().storage).toBe(x.storage);
      expect(x.to("float32").storage).toBe(x.storage);
      expect(x.to(device).storage).toBe(x.storage);
      expect(x.transpose(0, 1).contiguous().storage === x.storage).toBe(false);
    });
  });

  /** What a conversion gives: the number that the target stores for the source's number. */
  function convert(value: number, to: DType): number {
    const stored = decodeElement(to, encodeElement(to, to === uint8 ? Math.trunc(value) & 255 : value));
    return to.isFloat ? stored : stored + 0; // integers have no -0
  }

  test("every dtype to every other", () => {
    for (const from of dtypes) {
      for (const to of dtypes) {
        for (const layout of layouts) {
          tidy(() => {
            const { x, ref } = operand(device, from, [5, 9], layout, 2);
            const out = x.to(to);
            expect(out.dtype).toBe(to);
            // By way of float32, as the kernel: exact for these numbers, which all fit a float32.
            expect(numbers(out)).toEqual(ref.values.map((v) => convert(v, to)));
          });
        }
      }
    }
  });

  test("reshape is a view where possible and a copy elsewhere", () => {
    tidy(() => {
      const x = Tensor.arange(24, undefined, undefined, { device }).view(4, 6);
      expect(x.reshape(2, 12).storage).toBe(x.storage);
      const t = x.transpose(0, 1);
      const copied = t.reshape(-1);
      expect(copied.storage === x.storage).toBe(false);
      expect(numbers(copied).slice(0, 5)).toEqual(Float64Array.of(0, 6, 12, 18, 1));
      expect(t.flatten().shape).toEqual([24]);
      expect(t.flatten(0, 0).storage).toBe(x.storage);
    });
  });

  test("copy_ broadcasts and converts into a view", () => {
    for (const layout of layouts) {
      tidy(() => {
        const { x } = operand(device, float16, [4, 6], layout, 3);
        const row = operand(device, float32, [6], "stepped", 4);
        expect(x.copy_(row.x)).toBe(x);
        const expected = reference([4, 6], (i) => convert(element(row.ref, i), float16));
        expect(numbers(x)).toEqual(expected.values);
      });
    }
  });

  test("copy_ within one memory reads everything first, and leaves the rest alone", () => {
    tidy(() => {
      const x = Tensor.arange(10, undefined, undefined, { device });
      x.narrow(0, 2, 8).copy_(x.narrow(0, 0, 8));
      expect(x.toNested()).toEqual([0, 1, 0, 1, 2, 3, 4, 5, 6, 7]);
      const m = Tensor.arange(9, undefined, undefined, { device }).view(3, 3);
      m.copy_(m.transpose(0, 1));
      expect(m.flatten().toNested()).toEqual([0, 3, 6, 1, 4, 7, 2, 5, 8]);
      m.copy_(m);
      expect(m.flatten().toNested()).toEqual([0, 3, 6, 1, 4, 7, 2, 5, 8]);
    });
  });

  test("fill_ writes a view's elements and no others", () => {
    for (const dtype of dtypes) {
      tidy(() => {
        const x = Tensor.zeros([4, 6], { dtype, device });
        x.slice(1, 1, undefined, 2).fill_(1);
        x.select(0, 2).fill_(0);
        expect(x.to("int32").toNested()).toEqual(
          [0, 1, 2, 3].map((r) => [0, 1, 0, 1, 0, 1].map((v) => (r === 2 ? 0 : v))),
        );
      });
    }
  });

  test("zeros, ones, full and arange", () => {
    tidy(() => {
      for (const dtype of dtypes) {
        expect(numbers(Tensor.zeros([5], { dtype, device }))).toEqual(new Float64Array(5));
        expect(numbers(Tensor.ones([2, 3], { dtype, device }))).toEqual(new Float64Array(6).fill(1));
        expect(numbers(Tensor.full([], 1, { dtype, device }))).toEqual(Float64Array.of(1));
        expect(Tensor.full([0], 1, { dtype, device }).size).toBe(0);
      }
      expect(Tensor.full([2], 2n ** 60n + 1n, { dtype: "int64", device }).toArray()).toEqual(
        BigInt64Array.of(2n ** 60n + 1n, 2n ** 60n + 1n),
      );
      expect(Tensor.arange(5, undefined, undefined, { device }).toArray()).toEqual(Int32Array.of(0, 1, 2, 3, 4));
      expect(Tensor.arange(5, -1, -2, { device }).toNested()).toEqual([5, 3, 1]);
      expect(Tensor.arange(0, 1, 0.25, { device }).toNested()).toEqual([0, 0.25, 0.5, 0.75]);
      expect(Tensor.arange(3, 3, 1, { device }).size).toBe(0);
    });
  });

  test("cat and stack join along any dimension, and promote", () => {
    tidy(() => {
      const a = operand(device, float32, [2, 3], "transposed", 5);
      const b = operand(device, float16, [2, 4], "stepped", 6);
      const wide = Tensor.cat([a.x, b.x], 1);
      expect(wide.dtype).toBe(float32);
      const expected = reference([2, 7], ([i, j]) =>
        j! < 3 ? element(a.ref, [i!, j!]) : element(b.ref, [i!, j! - 3]),
      );
      expect(numbers(wide)).toEqual(expected.values);
      const c = operand(device, int32, [0, 3], "contiguous", 7);
      const d = operand(device, int32, [2, 3], "wide", 8);
      expect(numbers(Tensor.cat([c.x, d.x, d.x]))).toEqual(Float64Array.of(...d.ref.values, ...d.ref.values));
      for (const [dim, shape] of [
        [0, [2, 2, 3]],
        [1, [2, 2, 3]],
        [-1, [2, 3, 2]],
      ] as const) {
        const stacked = Tensor.stack([d.x, d.x], dim);
        expect(stacked.shape).toEqual(shape);
        expect(numbers(stacked.select(dim, 1))).toEqual(d.ref.values);
      }
    });
  });

  test("bitcast reads the same bytes as another dtype", () => {
    tidy(() => {
      const x = Tensor.from(Uint8Array.of(0, 0, 0x80, 0x3f, 0, 0, 0, 0x40), { device });
      expect(x.bitcast("float32").toNested()).toEqual([1, 2]);
      expect(x.bitcast("bfloat16").shape).toEqual([4]);
      expect(x.view(2, 4).select(0, 1).bitcast("float32").toNested()).toEqual([2]);
    });
  });

  test("an offset beyond 2^31 bytes is reached", () => {
    // 2.2 GB of bytes, of which only the ends are touched: one buffer, no copy of it.
    tidy(() => {
      const size = 2 ** 31 + 2 ** 26;
      const x = Tensor.empty([size], { dtype: "uint8", device });
      x.narrow(0, size - 5, 5).copy_(Tensor.from(Uint8Array.of(1, 2, 3, 4, 5), { device }));
      expect(x.slice(0, -5, undefined, 2).contiguous().toNested()).toEqual([1, 3, 5]);
      x.select(0, 0).fill_(9);
      const far = x.slice(0, 0, undefined, size - 1);
      expect(far.add(0).toNested()).toEqual([9, 5]);
    });
  });
});
