import { expect, test } from "vitest";
import { Tensor } from "../../src/tensor/tensor.ts";
import { tidy } from "../../src/tensor/tidy.ts";
import { describeGpu } from "../support/gpu.ts";
import { numbers } from "./reference.ts";

describeGpu("random tensors", (device) => {
  test("the same seed gives the same numbers, whatever the shape; another seed gives others", () => {
    tidy(() => {
      const a = numbers(Tensor.rand([1000], { device, seed: 5 }));
      const b = numbers(Tensor.rand([10, 10, 10], { device, seed: 5 }));
      const c = numbers(Tensor.rand([1003], { device, seed: 5 }));
      const d = numbers(Tensor.rand([1000], { device, seed: 6 }));
      expect(b).toEqual(a);
      expect(c.slice(0, 1000)).toEqual(a);
      expect(d.filter((v, i) => v === a[i]).length).toBeLessThan(3);
    });
  });

  test.each(["float32", "float16", "bfloat16"] as const)("moments of %s", (dtype) => {
    tidy(() => {
      const count = 200_000;
      const moments = (v: Float64Array) => {
        const mean = v.reduce((s, x) => s + x, 0) / v.length;
        return { mean, variance: v.reduce((s, x) => s + (x - mean) ** 2, 0) / v.length };
      };
      const uniform = numbers(Tensor.rand([count], { device, dtype, seed: 1 }));
      expect(uniform.every((v) => v >= 0 && v < 1)).toBe(true);
      // Five standard errors: 0.29 / sqrt(count) for the mean; rounding to bfloat16 moves it by less.
      const u = moments(uniform);
      expect(Math.abs(u.mean - 0.5)).toBeLessThan(0.0045);
      expect(Math.abs(u.variance - 1 / 12)).toBeLessThan(0.002);
      const n = moments(numbers(Tensor.randn([count], { device, dtype, seed: 2 })));
      expect(Math.abs(n.mean)).toBeLessThan(0.0112);
      expect(Math.abs(n.variance - 1)).toBeLessThan(0.016);
    });
  });

  test("no elements are no work", () => {
    using x = Tensor.randn([0, 3], { device });
    expect(x.shape).toEqual([0, 3]);
  });
});
