import { describe, expect, test } from "vitest";
import { bfloat16, type DType, float16, float32 } from "../../src/base/dtype.ts";
import { broadcastShapes, type Shape } from "../../src/base/shape.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { tidy } from "../../src/tensor/tidy.ts";
import { describeGpu, relativeL2, roundingTolerance } from "../support/gpu.ts";
import {
  element,
  type LayoutName,
  layouts,
  numbers,
  operand,
  type Reference,
  reference,
  watchMemory,
} from "./reference.ts";

const cases: [Shape, Shape][] = [
  [
    [1, 1],
    [1, 1],
  ],
  [
    [2, 3],
    [3, 4],
  ],
  [
    [17, 33],
    [33, 9],
  ],
  [
    [64, 64],
    [64, 64],
  ],
  [
    [1, 70],
    [70, 130],
  ],
  [
    [130, 70],
    [70, 1],
  ],
  [[5], [5]],
  [[5], [5, 3]],
  [[4, 5], [5]],
  [[3, 4, 5], [5]],
  [[5], [3, 5, 2]],
  [
    [2, 3, 4],
    [4, 5],
  ],
  [
    [3, 4],
    [2, 4, 5],
  ],
  [
    [2, 3, 4],
    [2, 4, 5],
  ],
  [
    [2, 1, 3, 4],
    [5, 4, 2],
  ],
  [
    [2, 3, 4, 5],
    [1, 3, 5, 2],
  ],
  [
    [2, 2, 1, 2, 3, 4],
    [1, 3, 2, 4, 2],
  ],
  [
    [0, 3],
    [3, 4],
  ],
  [
    [2, 0],
    [0, 3],
  ],
  [
    [2, 3],
    [3, 0],
  ],
  [
    [0, 2, 3],
    [3, 2],
  ],
];

function product(a: Reference, b: Reference): Reference {
  const left = a.shape.length === 1 ? { ...a, shape: [1, ...a.shape] } : a;
  const right = b.shape.length === 1 ? { ...b, shape: [...b.shape, 1] } : b;
  const batch = broadcastShapes("matmul", left.shape.slice(0, -2), right.shape.slice(0, -2));
  const [m, k, n] = [left.shape.at(-2)!, left.shape.at(-1)!, right.shape.at(-1)!];
  const full = reference([...batch, m, n], (index) => {
    const at = index.slice(0, -2);
    const [i, j] = index.slice(-2) as [number, number];
    let sum = 0;
    for (let x = 0; x < k; x++) sum += element(left, [...at, i, x]) * element(right, [...at, x, j]);
    return sum;
  });
  const shape = [...batch, ...(a.shape.length === 1 ? [] : [m]), ...(b.shape.length === 1 ? [] : [n])];
  return { shape, values: full.values };
}

describeGpu("matmul", (device) => {
  watchMemory(device);

  function check(dtype: DType, a: Shape, b: Shape, la: LayoutName, lb: LayoutName): void {
    tidy(() => {
      const left = operand(device, dtype, a, la, 1);
      const right = operand(device, dtype, b, lb, 2);
      const expected = product(left.ref, right.ref);
      const out = left.x.matmul(right.x);
      expect(out.shape).toEqual(expected.shape);
      expect(out.dtype).toBe(dtype);
      // float32 sums of up to 130 products, rounded once: cancellation costs float32 a few bits of its 24.
      expect(relativeL2(numbers(out), expected.values)).toBeLessThan(
        roundingTolerance(dtype, dtype === float32 ? 4 : 1),
      );
    });
  }

  describe.each([float32, float16, bfloat16].map((dtype) => [dtype.name, dtype] as const))("%s", (_, dtype) => {
    test.each(cases)("%j and %j, in every layout", (a, b) => {
      for (const layout of layouts) {
        check(dtype, a, b, layout, "contiguous");
        check(dtype, a, b, "contiguous", layout);
      }
    });
  });

  test("transposed operands are read as they lie, without a copy", () => {
    tidy(() => {
      const a = operand(device, float32, [40, 30], "transposed", 3);
      const b = operand(device, float32, [30, 20], "transposed", 4);
      device.memory.resetPeaks();
      const before = device.memory.statistics().allocatedBytes;
      const out = a.x.matmul(b.x);
      const { peakAllocatedBytes } = device.memory.statistics();
      // The result and nothing else: 40 · 20 · 4 bytes in its size class.
      expect(peakAllocatedBytes - before).toBeLessThan(40 * 20 * 4 + 512);
      expect(relativeL2(numbers(out), product(a.ref, b.ref).values)).toBeLessThan(2 ** -18);
    });
  });

  test("heads of attention: permuted batch dimensions", () => {
    tidy(() => {
      const q = operand(device, float32, [6, 4, 8], "contiguous", 5); // [T, H, D]
      const k = operand(device, float32, [6, 4, 8], "contiguous", 6);
      const scores = q.x.permute(1, 0, 2).matmul(k.x.permute(1, 2, 0)); // [H, T, T]
      const expected = reference([4, 6, 6], ([h, i, j]) => {
        let sum = 0;
        for (let d = 0; d < 8; d++) sum += element(q.ref, [i!, h!, d]) * element(k.ref, [j!, h!, d]);
        return sum;
      });
      expect(relativeL2(numbers(scores), expected.values)).toBeLessThan(2 ** -18);
    });
  });

  test("an expanded operand is one matrix for the whole batch", () => {
    tidy(() => {
      const a = operand(device, float32, [3, 4, 5], "contiguous", 7);
      const b = operand(device, float32, [5, 2], "contiguous", 8);
      const out = a.x.matmul(b.x.expand(3, 5, 2));
      expect(relativeL2(numbers(out), product(a.ref, b.ref).values)).toBeLessThan(2 ** -18);
      const repeated = Tensor.from([1, 2], { device }).expand(3, 2);
      expect(repeated.matmul(Tensor.ones([2, 2], { device })).toNested()).toEqual([
        [3, 3],
        [3, 3],
        [3, 3],
      ]);
    });
  });
});
