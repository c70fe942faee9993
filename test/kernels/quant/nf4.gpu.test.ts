import { expect, test } from "vitest";
import { bfloat16, type DType, float16, float32, uint8 } from "../../../src/base/dtype.ts";
import { type FourBitType, fourBitLevels } from "../../../src/base/four-bit.ts";
import { code4BlockSizes, dynamicCode } from "../../../src/kernels/nf4/levels.ts";
import {
  type Code4Data,
  dequantizeCode4,
  expandAbsmax,
  nestAbsmax,
  quantizeCode4,
} from "../../../src/kernels/nf4/nf4.ts";
import { bits, describeGpu, output, randomArray, toNumbers, upload } from "../../support/gpu.ts";
import { Vectors } from "../../support/vectors.ts";

const vectors = new Vectors("nf4-vectors.safetensors");

describeGpu("4-bit codes", (device) => {
  function quantize(x: ReturnType<DType["array"]>, dtype: DType, blockSize: number, type: FourBitType) {
    const count = x.length;
    const packed = output(device, uint8, Math.ceil(count / 2));
    const absmax = output(device, float32, Math.ceil(count / blockSize));
    quantizeCode4(device.stream, {
      packed: packed.ptr,
      absmax: absmax.ptr,
      x: upload(device, x),
      count,
      blockSize,
      dtype,
      type,
    });
    return { packed: packed.stored() as Uint8Array, absmax: absmax.stored() as Float32Array };
  }

  test.each(["a", "c"])("quantizes vector %s as bitsandbytes does, bit for bit", (name) => {
    const got = quantize(vectors.words(`${name}.weight`), bfloat16, 64, "nf4");
    expect(got.packed).toEqual(vectors.bytes(`${name}.packed`));
    expect(bits(got.absmax)).toEqual(bits(vectors.floats(`${name}.absmax`)));
  });

  test.each(["b", "d"])("double quantization of vector %s: bytes, nested absmax and offset", (name) => {
    const { packed, absmax } = quantize(vectors.words(`${name}.weight`), bfloat16, 64, "nf4");
    expect(packed).toEqual(vectors.bytes(`${name}.packed`));
    const count = absmax.length;
    const bytes = output(device, uint8, count);
    const nested = output(device, float32, Math.ceil(count / 256));
    const offset = output(device, float32, 1);
    nestAbsmax(device.stream, {
      bytes: bytes.ptr,
      nestedAbsmax: nested.ptr,
      offset: offset.ptr,
      absmax: upload(device, absmax),
      code: upload(device, dynamicCode()),
      count,
    });
    expect(bits(offset.stored())).toEqual(bits(vectors.floats(`${name}.offset`)));
    expect(bytes.stored()).toEqual(vectors.bytes(`${name}.absmax`));
    expect(bits(nested.stored())).toEqual(bits(vectors.floats(`${name}.nested_absmax`)));
  });

  /** A vector of the file on the device, as a checkpoint describes it. */
  function stored(name: string): Code4Data {
    const nested = vectors.has(`${name}.nested_absmax`)
      ? {
          absmax: upload(device, vectors.floats(`${name}.nested_absmax`)),
          code: upload(device, vectors.floats(`${name}.nested_code`)),
          offset: vectors.floats(`${name}.offset`)[0]!,
        }
      : undefined;
    return {
      packed: upload(device, vectors.bytes(`${name}.packed`)),
      absmax: upload(device, vectors.bytes(`${name}.absmax`)),
      code: upload(device, vectors.floats(`${name}.code`)),
      blockSize: 64,
      ...(nested ? { nested } : {}),
    };
  }

  test.each(["a", "b", "c", "d"])("dequantizes vector %s to bfloat16 as bitsandbytes does, bit for bit", (name) => {
    const count = vectors.shape(`${name}.weight`).reduce((x, y) => x * y);
    const out = output(device, bfloat16, count);
    dequantizeCode4(device.stream, stored(name), { out: out.ptr, count, dtype: bfloat16 });
    expect(bits(out.stored())).toEqual(vectors.bytes(`${name}.dequant`));
  });

  test("nested absmax expands to what dequantization uses", () => {
    const data = stored("d");
    const count = vectors.shape("d.absmax")[0]!;
    const out = output(device, float32, count);
    expandAbsmax(device.stream, { out: out.ptr, bytes: data.absmax, nested: data.nested!, count });
    const [code, nested] = [vectors.floats("d.nested_code"), vectors.floats("d.nested_absmax")];
    const offset = vectors.floats("d.offset")[0]!;
    const expected = Float32Array.from(vectors.bytes("d.absmax"), (byte, i) =>
      Math.fround(Math.fround(code[byte]! * nested[i >> 8]!) + offset),
    );
    expect(bits(out.stored())).toEqual(bits(expected));
  });

  /** What a value becomes: the level nearest to value / absmax, a tie going to the one below. */
  function reference(values: Float64Array, blockSize: number, type: FourBitType): Float32Array {
    const levels = fourBitLevels[type];
    const out = new Float32Array(values.length);
    for (let start = 0; start < values.length; start += blockSize) {
      const block = values.subarray(start, start + blockSize);
      const absmax = Math.fround(block.reduce((most, x) => Math.max(most, Math.abs(x)), 0));
      block.forEach((x, i) => {
        const y = absmax === 0 ? -1 : x / absmax;
        const best = levels.reduce((near, level) => (Math.abs(level - y) < Math.abs(near - y) ? level : near));
        out[start + i] = Math.fround(best * absmax);
      });
    }
    return out;
  }

  const cases = (["nf4", "fp4"] as const).flatMap((type) =>
    [float32, float16, bfloat16].flatMap((dtype) => code4BlockSizes.map((b) => [type, dtype.name, b, dtype] as const)),
  );
  test.each(cases)("%s of %s in blocks of %i: there and back", (type, _, blockSize, dtype) => {
    for (const count of [7, 2 * blockSize + 5]) {
      const x = randomArray(dtype, count, blockSize + count);
      const { packed, absmax } = quantize(x, dtype, blockSize, type);
      const data = {
        packed: upload(device, packed),
        absmax: upload(device, absmax),
        code: upload(device, fourBitLevels[type]),
        blockSize,
      };
      const out = output(device, float32, count);
      dequantizeCode4(device.stream, data, { out: out.ptr, count, dtype: float32 });
      const values = toNumbers(dtype, x);
      const expected = reference(values, blockSize, type);
      const got = out.stored() as Float32Array;
      // The rounded reciprocal and the rounded midpoints decide differently only where two levels are equally near.
      const differ = got.findIndex((y, i) => {
        const v = values[i]!;
        return y !== expected[i] && Math.abs(Math.abs(y - v) - Math.abs(expected[i]! - v)) > 1e-5 * Math.abs(v) + 1e-12;
      });
      expect(differ).toBe(-1);
      // 16-bit outputs are the float32 value rounded once.
      const half = output(device, bfloat16, count);
      dequantizeCode4(device.stream, data, { out: half.ptr, count, dtype: bfloat16 });
      const rounded = toNumbers(bfloat16, half.stored());
      expect(got.findIndex((y, i) => Math.abs(rounded[i]! - y) > Math.abs(y) / 256)).toBe(-1);
    }
  });
});
