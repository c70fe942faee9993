import { expect, test } from "vitest";
import { bfloat16, float16, float32 } from "../../src/base/dtype.ts";
import { largestBelow } from "../../src/kernels/random/random.ts";

test.each([
  [float32, 1, 1 - 2 ** -24],
  [float16, 1, 1 - 2 ** -11],
  [bfloat16, 1, 1 - 2 ** -8],
  [bfloat16, 1.001, 1],
  [bfloat16, 0, -(2 ** -133)],
  [float16, -2, -2 - 2 ** -9],
  [float32, 0.1, 0.09999999403953552],
])("the largest number below a bound: $0.name $1", (dtype, value, expected) => {
  expect(largestBelow(dtype, value)).toBe(expected);
});
