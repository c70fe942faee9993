import { dtypeFromSafetensors } from "../../base/dtype.ts";
import { encodeArray } from "../../base/element.ts";
import { UnsupportedError } from "../../base/errors.ts";
import { numberToF16 } from "../../base/float.ts";
import type { GgmlType } from "../../base/ggml.ts";

/** Writes one block of 32 values at `at`. */
type BlockWriter = (values: Float32Array, out: DataView, at: number) => void;

const blockElements = 32;
const f32 = Math.fround;

/**
 * Quantizes rows of whole blocks to one of ggml's legacy types: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1 or Q8_0. The bytes are those
 * that llama.cpp gives. Throws UnsupportedError for other types: the K types search for scales, on a device (kernels/ggml/quantize.ts).
 */
export function quantizeGgml(type: GgmlType, values: Float32Array): Uint8Array {
  const dtype = type.kind === "float" ? dtypeFromSafetensors(type.name) : undefined;
  if (dtype) {
    const encoded = encodeArray(dtype, values);
    return new Uint8Array(encoded.buffer, encoded.byteOffset, encoded.byteLength);
  }
  const write = Object.hasOwn(writers, type.name) ? writers[type.name] : undefined;
  if (!write) {
    throw new UnsupportedError(
      `quantizing to ${type.name} is not supported; supported are F32, F16, BF16, ${Object.keys(writers).join(", ")}`,
    );
  }
  const blocks = values.length / blockElements;
  const out = new Uint8Array(blocks * type.blockBytes);
  const view = new DataView(out.buffer);
  for (let block = 0; block < blocks; block++) {
    write(values.subarray(block * blockElements, (block + 1) * blockElements), view, block * type.blockBytes);
  }
  return out;
}

/** Whether `quantizeGgml` writes a type. */
export function canQuantize(type: GgmlType): boolean {
  return Object.hasOwn(writers, type.name) || (type.kind === "float" && type.supported);
}

// Source: the reference quantization in ggml (ggml-quants.c). Arithmetic is float32, each operation rounded.
const writers: Readonly<Record<string, BlockWriter>> = {
  /** d = max |x| / 127; d in float16, then 32 signed bytes, rounded half away from zero. */
  Q8_0: (values, out, at) => {
    let largest = 0;
    for (const x of values) largest = Math.max(largest, Math.abs(x));
    const d = f32(largest / 127);
    const inverse = d === 0 ? 0 : f32(1 / d);
    out.setUint16(at, numberToF16(d), true);
    for (let i = 0; i < blockElements; i++) {
      const scaled = f32(values[i]! * inverse);
      const magnitude = Math.abs(scaled);
      const whole = Math.floor(magnitude);
      out.setInt8(at + 2 + i, Math.sign(scaled) * (whole + Math.floor(2 * f32(magnitude - whole))));
    }
  },
  /** d takes the value furthest from zero to -8; codes 0 to 15 stand for -8 to 7. */
  Q4_0: (values, out, at) => symmetric(values, out, at, 4),
  /** The same with -16 and a fifth bit. */
  Q5_0: (values, out, at) => symmetric(values, out, at, 5),
  /** The least value in float16 too; codes 0 to 15 reach from it to the greatest. */
  Q4_1: (values, out, at) => withMinimum(values, out, at, 4),
  Q5_1: (values, out, at) => withMinimum(values, out, at, 5),
};

function symmetric(values: Float32Array, out: DataView, at: number, bits: 4 | 5): void {
  const half = 1 << (bits - 1);
  let furthest = 0;
  for (const x of values) if (Math.abs(x) > Math.abs(furthest)) furthest = x;
  const d = f32(furthest / -half);
  const inverse = d === 0 ? 0 : f32(1 / d);
  out.setUint16(at, numberToF16(d), true);
  // Rounded twice, as llama.cpp does where its compiler fuses nothing (x64). gguf-py rounds once: some of its codes are others.
  writeCodes(values, out, at + 2, bits, (x) => f32(f32(x * inverse) + (half + 0.5)));
}

function withMinimum(values: Float32Array, out: DataView, at: number, bits: 4 | 5): void {
  const least = Math.min(...values);
  const d = f32(f32(Math.max(...values) - least) / ((1 << bits) - 1));
  const inverse = d === 0 ? 0 : f32(1 / d);
  out.setUint16(at, numberToF16(d), true);
  out.setUint16(at + 2, numberToF16(least), true);
  writeCodes(values, out, at + 4, bits, (x) => f32(f32(f32(x - least) * inverse) + 0.5));
}

/** Codes of the first and second half share bytes, low bits first; the fifth bits of all stand before them. */
function writeCodes(values: Float32Array, out: DataView, at: number, bits: 4 | 5, code: (x: number) => number): void {
  const greatest = (1 << bits) - 1;
  const clipped = (i: number) => Math.min(greatest, Math.max(0, Math.trunc(code(values[i]!))));
  let high = 0;
  const bytesAt = bits === 5 ? at + 4 : at;
  for (let i = 0; i < blockElements / 2; i++) {
    const [a, b] = [clipped(i), clipped(i + blockElements / 2)];
    out.setUint8(bytesAt + i, (a & 15) | ((b & 15) << 4));
    high |= ((a >> 4) << i) | ((b >> 4) << (i + blockElements / 2));
  }
  if (bits === 5) out.setUint32(at, high >>> 0, true);
}
