import { expect, test } from "vitest";
import { bfloat16, float16, float32, int32, int64, uint8 } from "../../src/base/dtype.ts";
import { encodeArray } from "../../src/base/element.ts";
import { arange } from "../../src/kernels/fill/arange.ts";
import { randomWords } from "../../src/kernels/random/philox.ts";
import { normal, uniform } from "../../src/kernels/random/random.ts";
import { describeGpu, output, relativeL2, roundingTolerance } from "../support/gpu.ts";

const seed = 0x1234_5678_9abc_def0n;

function words(count: number, offset: bigint): number[] {
  const groups = Array.from({ length: Math.ceil(count / 4) }, (_, g) => randomWords(seed, offset, g));
  return groups.flat().slice(0, count);
}

function normalsOf(count: number, offset: bigint): Float64Array {
  const w = words(Math.ceil(count / 4) * 4, offset);
  return Float64Array.from({ length: count }, (_, i) => {
    const pair = i - (i % 2);
    const radius = Math.sqrt(-2 * Math.log((w[pair]! + 0.5) / 2 ** 32));
    const angle = 2 * Math.PI * ((w[pair + 1]! >>> 8) / 2 ** 24);
    return radius * (i % 2 ? Math.sin(angle) : Math.cos(angle));
  });
}

describeGpu("random", (device) => {
  test.each([1, 4, 5, 1023, 300_001])("uniform numbers are Philox's, x %i", (count) => {
    const out = output(device, float32, count);
    uniform(device.stream, { out: out.ptr, count, dtype: float32, seed, offset: 7n, low: 0, high: 1 });
    const expected = Float32Array.from(words(count, 7n), (w) => (w >>> 8) / 2 ** 24);
    expect(out.stored()).toEqual(expected);
  });

  test.each([float32, float16, bfloat16])("normal numbers are Box and Muller's of Philox's", (dtype) => {
    const count = 10_007;
    const out = output(device, dtype, count);
    normal(device.stream, { out: out.ptr, count, dtype, seed, offset: 0n, mean: 0.5, std: 2 });
    const expected = normalsOf(count, 0n).map((v) => 0.5 + 2 * v);
    expect(relativeL2(out.numbers(), expected)).toBeLessThan(roundingTolerance(dtype));
  });

  test("the numbers do not depend on where a call starts", () => {
    const whole = output(device, float32, 4096);
    normal(device.stream, { out: whole.ptr, count: 4096, dtype: float32, seed, offset: 0n, mean: 0, std: 1 });
    const part = output(device, float32, 96);
    normal(device.stream, { out: part.ptr, count: 96, dtype: float32, seed, offset: 1000n, mean: 0, std: 1 });
    expect(part.stored()).toEqual((whole.stored() as Float32Array).slice(4000));
  });

  test.each([float32, float16, bfloat16])("uniform numbers stay below the upper bound, and fill the range", (dtype) => {
    const count = 200_000;
    const out = output(device, dtype, count);
    uniform(device.stream, { out: out.ptr, count, dtype, seed, offset: 0n, low: -3, high: 5 });
    const values = out.numbers();
    expect(values.every((v) => v >= -3 && v < 5)).toBe(true);
    const mean = values.reduce((a, b) => a + b) / count;
    const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / count;
    expect(Math.abs(mean - 1)).toBeLessThan(0.03); // six standard errors of 8 / sqrt(12 * 200000), and rounding
    expect(Math.abs(variance - 64 / 12)).toBeLessThan(0.08);
  });
});

describeGpu("arange", (device) => {
  test.each([float32, float16, bfloat16])("floats round once", (dtype) => {
    const count = 5001;
    const out = output(device, dtype, count);
    arange(device.stream, { out: out.ptr, start: -3.3, step: 0.1, count, dtype });
    const expected = encodeArray(
      dtype,
      Array.from({ length: count }, (_, i) => -3.3 + i * 0.1),
    );
    expect([...out.stored()]).toEqual([...expected]);
  });

  test.each([int32, int64, uint8])("integers are exact", (dtype) => {
    const out = output(device, dtype, 70);
    arange(device.stream, { out: out.ptr, start: 5, step: 3, count: 70, dtype });
    expect([...out.numbers()]).toEqual(Array.from({ length: 70 }, (_, i) => 5 + 3 * i));
  });
});
