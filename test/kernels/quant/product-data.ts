import { type DType, float32, type HostArray } from "../../../src/base/dtype.ts";
import { decodeArray, encodeArray } from "../../../src/base/element.ts";
import { fourBitLevels } from "../../../src/base/four-bit.ts";
import { ggmlType } from "../../../src/base/ggml.ts";
import type { Device } from "../../../src/driver/device.ts";
import { dynamicCode } from "../../../src/kernels/nf4/levels.ts";
import { nestAbsmax, quantizeCode4 } from "../../../src/kernels/nf4/nf4.ts";
import type { QuantFormat } from "../../../src/kernels/quant-matmul/formats.ts";
import { dequantizeWeight, type QuantData } from "../../../src/kernels/quant-matmul/quant-matmul.ts";
import { allocate, download, random, randomArray, toNumbers, upload } from "../../support/gpu.ts";
import { Vectors } from "../../support/vectors.ts";

const vectors = new Vectors("ggml-vectors.safetensors");

export interface TestWeight {
  readonly data: QuantData;
  /** [N, K]: what the stored bits mean, exactly. */
  readonly values: Float64Array;
}

interface CodeOptions {
  readonly blockSize?: number;
  readonly nested?: boolean;
  readonly valueDType?: DType;
}

/** A quantized weight [N, K] and its values: random numbers in 4-bit codes, or the blocks of the vectors in random order. */
export function testWeight(
  device: Device,
  format: QuantFormat,
  n: number,
  k: number,
  seed: number,
  options: CodeOptions = {},
): TestWeight {
  const data = format === "code4" ? codes(device, n * k, seed, options) : blocks(device, format, n * k, seed);
  const out = allocate(device, n * k * 4);
  // Unrounded by the device; as the weight's own type, where it has one, by the host.
  const { valueDType, ...unrounded } = { valueDType: undefined, ...data };
  dequantizeWeight(device.stream, unrounded, { out, rows: n, k, dtype: float32 });
  const exact = toNumbers(float32, download(device, out, float32, n * k));
  return { data, values: valueDType ? decodeArray(valueDType, encodeArray(valueDType, exact)) : exact };
}

function codes(device: Device, count: number, seed: number, o: CodeOptions): QuantData {
  const { blockSize = 64, nested = false, valueDType } = o;
  const packed = allocate(device, Math.ceil(count / 2));
  const blockCount = Math.ceil(count / blockSize);
  const absmax = allocate(device, blockCount * 4);
  const x = upload(device, randomArray(float32, count, seed));
  quantizeCode4(device.stream, { packed, absmax, x, count, blockSize, dtype: float32, type: "nf4" });
  const code = upload(device, fourBitLevels.nf4);
  const levelScale = { f16: 1.25, bf16: 1.5 };
  const plain = { kind: "code4", packed, code, blockSize, levelScale, ...(valueDType && { valueDType }) } as const;
  if (!nested) return { ...plain, absmax };
  const p = {
    bytes: allocate(device, blockCount),
    nestedAbsmax: allocate(device, Math.ceil(blockCount / 256) * 4),
    offset: allocate(device, 4),
    absmax,
    code: upload(device, dynamicCode()),
    count: blockCount,
  };
  nestAbsmax(device.stream, p);
  const offset = download(device, p.offset, float32, 1)[0] as number;
  return { ...plain, absmax: p.bytes, nested: { absmax: p.nestedAbsmax, code: p.code, offset } };
}

function blocks(device: Device, format: Exclude<QuantFormat, "code4">, count: number, seed: number): QuantData {
  const { blockElements, blockBytes } = ggmlType(format);
  const raw = vectors.bytes(`${format.toUpperCase()}.raw`);
  const next = random(seed);
  const bytes = new Uint8Array((count / blockElements) * blockBytes);
  for (let at = 0; at < bytes.length; at += blockBytes) {
    const from = Math.floor(next() * (raw.length / blockBytes)) * blockBytes;
    bytes.set(raw.subarray(from, from + blockBytes), at);
  }
  return { kind: "ggml", type: format, blocks: upload(device, bytes) };
}

/** x [M, K] times W [N, K]^T in float64. */
export function exactProduct(x: ArrayLike<number>, w: Float64Array, m: number, n: number, k: number): Float64Array {
  const out = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let l = 0; l < k; l++) sum += x[i * k + l]! * w[j * k + l]!;
      out[i * n + j] = sum;
    }
  }
  return out;
}

/** [rows, cols] with `gap` elements of NaN after every row. */
export function withGaps(dtype: DType, array: HostArray, cols: number, gap: number): HostArray {
  const rows = array.length / cols;
  const out = dtype.array(rows * (cols + gap));
  out.fill(0x7fff as never);
  for (let r = 0; r < rows; r++) out.set(array.subarray(r * cols, (r + 1) * cols) as never, r * (cols + gap));
  return out;
}
