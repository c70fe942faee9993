import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { float32, uint8 } from "../../../src/base/dtype.ts";
import { ggmlBytes, ggmlType } from "../../../src/base/ggml.ts";
import type { Device } from "../../../src/driver/device.ts";
import { dequantizeGgml } from "../../../src/kernels/ggml/ggml.ts";
import { type KFormat, kFormats, quantizeGgmlK } from "../../../src/kernels/ggml/quantize.ts";
import { describeGpu, normals, output, random, relativeL2, upload } from "../../support/gpu.ts";

/** No multiple of the two or four blocks that a warp takes. */
const blocks = 61;

/**
 * Values that take every way through the searches: rounded sums of uniform numbers, which no machine's logarithm changes, and
 * outliers, one sign only, few levels, mostly zeros, float16's smallest and below what counts as zero, groups of other sizes, constants.
 */
function inputs(): Float32Array {
  const next = random(20);
  const bell = () => Math.fround(next() + next() + next() + next() - 2);
  const kinds: readonly ((i: number) => number)[] = [
    () => bell() * 0.02,
    () => (next() < 0.02 ? bell() * 8 : bell() * 0.1),
    () => 1 + next() / 16,
    () => -1 - next() / 1024,
    () => Math.floor(next() * 3) - 1,
    () => (next() < 0.05 ? bell() : 0),
    () => bell() * 2 ** -23,
    () => bell() * 2 ** -48,
    (i) => bell() * 2 ** -((i >> 4) % 9),
    (i) => (i >> 5) % 3,
    () => bell() * 4096,
    () => 0,
    () => -0.5,
  ];
  return Float32Array.from({ length: blocks * 256 }, (_, i) => kinds[(i >> 8) % kinds.length]!(i));
}

function quantize(device: Device, type: KFormat, values: Float32Array): Uint8Array {
  const out = output(device, uint8, ggmlBytes(ggmlType(type), values.length));
  quantizeGgmlK(device.stream, { out: out.ptr, x: upload(device, values), count: values.length, type });
  return out.stored() as Uint8Array;
}

function dequantize(device: Device, type: KFormat, stored: Uint8Array, cols: number): Float64Array {
  const out = output(device, float32, cols);
  dequantizeGgml(device.stream, { out: out.ptr, blocks: upload(device, stored), type, n: 1, cols, dtype: float32 });
  return out.numbers();
}

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** Sums of what llama.cpp v0.5.0's quantize_row_*_ref, as built for x64, makes of these inputs. */
const sums: Readonly<Record<KFormat, string>> = {
  q2_k: "2375f55c489ff2e6e4c8a1345f581313eaab9b5b2c864b6ad70cd17c6d705662",
  q3_k: "fca68663a13347087713f7cd2deeab8d3a4a246c025445626fd694bb6da4c2e4",
  q4_k: "e28f4a637cf91e57305c8360d37c57f8375b3ac356db6dac580c214f7ba41148",
  q5_k: "61b325080e00da32866ce764ad921118e460825ad6b6a1211257dd8d1042a79d",
  q6_k: "b3806b4c77c79b3ad80d80d4436474eca22866e47eb511f7fedd70ebeef18cbb",
};

/** Relative L2 errors of normal weights in llama.cpp's blocks. */
const errors: Readonly<Record<KFormat, number>> = {
  ...{ q2_k: 0.294, q3_k: 0.1514, q4_k: 0.0711, q5_k: 0.036, q6_k: 0.0178 },
};

describeGpu("quantization to K types", (device) => {
  test.each(kFormats)("%s: the bytes of llama.cpp's reference", (type) => {
    expect(sha256(quantize(device, type, inputs()))).toBe(sums[type]);
  });

  test.each(kFormats)("%s: values come back", (type) => {
    const values = Float32Array.from(normals(blocks * 256, 3));
    const back = dequantize(device, type, quantize(device, type, values), values.length);
    expect(relativeL2(back, values) / errors[type]).toBeCloseTo(1, 2);
  });

  test.each(kFormats)("%s: a value that is not finite makes d of its block NaN, and leaves others alone", (type) => {
    const values = inputs();
    const { blockBytes } = ggmlType(type);
    const whole = quantize(device, type, values);
    for (const odd of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      const [block, last] = [5, blocks - 1];
      values[256 * block + 77] = odd;
      values[256 * last + 255] = odd;
      const stored = quantize(device, type, values);
      const back = dequantize(device, type, stored, values.length);
      for (let b = 0; b < blocks; b++) {
        const [begin, end] = [b * blockBytes, (b + 1) * blockBytes];
        if (b === block || b === last) expect(back.subarray(256 * b, 256 * (b + 1)).every(Number.isNaN)).toBe(true);
        else expect(Buffer.compare(stored.subarray(begin, end), whole.subarray(begin, end))).toBe(0);
      }
    }
  });
});
