import { expect, test } from "vitest";
import { bfloat16, bool, float16, float32, int32, int64, uint8 } from "../../src/base/dtype.ts";
import { encodeArray } from "../../src/base/element.ts";
import { fill } from "../../src/kernels/fill/fill.ts";
import { describeGpu, output } from "../support/gpu.ts";

describeGpu("fill", (device) => {
  for (const dtype of [float32, float16, bfloat16, int32, int64, uint8, bool]) {
    test.each([0, 1, 3, 16, 17, 1000, 65537])(`${dtype.name} x %i, at an odd start`, (count) => {
      const skipped = 1; // so that the range starts off a 16-byte boundary
      const out = output(device, dtype, count + skipped, encodeArray(dtype, new Float64Array(count + skipped)));
      const ptr = (out.ptr + BigInt(dtype.bytes * skipped)) as typeof out.ptr;
      fill(device.stream, { out: ptr, value: 1, count, dtype });
      const values = out.numbers();
      expect(values[0]).toBe(0);
      expect(values.slice(skipped).every((v) => v === 1)).toBe(true);
    });
  }
});
