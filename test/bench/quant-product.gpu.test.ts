import { expect, test } from "vitest";
import { loadProbes } from "../../bench/support/probes.ts";
import { parseQuantKernel, parseStored } from "../../bench/support/quant-product.ts";
import { float16, float32, uint8 } from "../../src/base/dtype.ts";
import { ggmlBytes } from "../../src/base/ggml.ts";
import { QuantizedWeight } from "../../src/tensor/quantized-weight.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { describeGpu, download } from "../support/gpu.ts";

test("types of weights and kernels go by their names, and others are refused with what there is", () => {
  expect(parseStored("nf4-dq")).toEqual({ codes: { type: "nf4", nested: true } });
  expect(parseStored("q4_k")).toMatchObject({ blocks: { name: "Q4_K" } });
  expect(() => parseStored("gptq")).toThrow('"gptq" is not known; use one of nf4, nf4-dq');
  expect(parseQuantKernel("own")).toBe(undefined);
  expect(parseQuantKernel("mma")).toBe("mma");
  expect(() => parseQuantKernel("hopper")).toThrow("use own, gemv, mma");
});

describeGpu("random blocks of the benchmarks", (device) => {
  test("every float16 in them is finite, and so is every value", () => {
    const bytes = 144 * 5 * 256;
    using buffer = device.allocate(bytes);
    loadProbes(device).fillBits(buffer.ptr, bytes, 3);
    const words = download(device, buffer.ptr, float16, bytes / 2) as Uint16Array;
    expect(words.findIndex((word) => (word & 0x7c00) === 0x7c00)).toBe(-1);
    // Each of the other 15 bits is set in half of them.
    for (let bit = 0; bit < 16; bit++) {
      const share = words.filter((word) => (word >> bit) & 1).length / words.length;
      expect(Math.abs(share - (bit === 14 ? 0 : 0.5))).toBeLessThan(0.01);
    }
    const stored = parseStored("q4_k");
    if (!("blocks" in stored)) throw new Error("q4_k is stored in blocks");
    const blocks = Tensor.empty([ggmlBytes(stored.blocks, 8 * 256)], { dtype: uint8, device });
    loadProbes(device).fillBits(blocks.ptr, blocks.size, 4);
    using weight = QuantizedWeight.ggml([8, 256], stored.blocks, blocks);
    using values = weight.dequantize(float32);
    const numbers = values.toArray() as Float32Array;
    expect(numbers.every(Number.isFinite)).toBe(true);
    expect(new Set(numbers).size).toBeGreaterThan(500);
  });
});
