import { float16, float32, uint8 } from "../../src/base/dtype.ts";
import { ggmlBytes, ggmlType } from "../../src/base/ggml.ts";
import type { Device } from "../../src/driver/device.ts";
import { quantizeGgml } from "../../src/formats/gguf/quantize.ts";
import { type KFormat, kFormats, quantizeGgmlK } from "../../src/kernels/ggml/quantize.ts";
import { HostTensor } from "../../src/tensor/host-tensor.ts";
import { QuantizedWeight, type QuantizeOptions } from "../../src/tensor/quantized-weight.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import type { Matrix } from "./demo-weights.ts";

/** What a type loses, over all matrices that it was tried on. */
export interface TypeLoss {
  readonly type: string;
  readonly bits: number;
  /** ‖dequantized - original‖ / ‖original‖. */
  readonly error: number;
}

export interface TypeLosses {
  /** By block size, from 32 on: `NF4 / 32`. */
  readonly nf4: readonly TypeLoss[];
  /** Other 4-bit codes. */
  readonly codes: readonly TypeLoss[];
  /** GGML's types. */
  readonly blocks: readonly TypeLoss[];
}

/** What each type loses of the demonstration model's projections. */
export function typeLosses(device: Device, originals: ReadonlyMap<string, Matrix>): TypeLosses {
  const all = [...originals.values()];
  const fourBit = (type: string, bits: number, options: QuantizeOptions) =>
    lossOf(type, bits, all, (matrix) => quantizeFourBit(matrix, device, options));
  return {
    nf4: [32, 64, 128, 256, 512, 1024, 2048, 4096].map((blockSize) =>
      fourBit(`NF4 / ${blockSize}`, 4 + 32 / blockSize, { blockSize }),
    ),
    codes: [
      fourBit("NF4 (dq)", 4 + 8 / 64 + 32 / (64 * 256), { nested: true }),
      fourBit("FP4", 4 + 32 / 64, { type: "fp4" }),
    ],
    blocks: [
      ...["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"].map((name) =>
        lossOf(name, bitsOf(name), all, (matrix) => quantizeBlocks(matrix, device, name)),
      ),
      ...kFormats.map((format) => {
        const { name } = ggmlType(format);
        return lossOf(name, bitsOf(name), all, (matrix) => quantizeSuperblocks(matrix, device, format));
      }),
    ],
  };
}

function bitsOf(ggml: string): number {
  const { blockElements, blockBytes } = ggmlType(ggml);
  return (8 * blockBytes) / blockElements;
}

function lossOf(
  type: string,
  bits: number,
  matrices: Iterable<Matrix>,
  quantize: (matrix: Matrix) => QuantizedWeight,
): TypeLoss {
  const loss = new Loss();
  for (const matrix of matrices) {
    using weight = quantize(matrix);
    using values = weight.dequantize();
    loss.add(matrix.values, values.toArray() as Float32Array);
  }
  return { type, bits, error: loss.relativeL2 };
}

/** From the float16 that the checkpoint has, as bitsandbytes quantizes. */
function quantizeFourBit({ shape, values }: Matrix, device: Device, options: QuantizeOptions): QuantizedWeight {
  using x = Tensor.from(new HostTensor(values, shape, float32), { device });
  using half = x.to(float16);
  return QuantizedWeight.quantize(half, options);
}

function quantizeBlocks({ shape, values }: Matrix, device: Device, name: string): QuantizedWeight {
  const type = ggmlType(name);
  return QuantizedWeight.ggml(shape, type, Tensor.from(quantizeGgml(type, values), { dtype: uint8, device }));
}

function quantizeSuperblocks({ shape, values }: Matrix, device: Device, format: KFormat): QuantizedWeight {
  const type = ggmlType(format);
  using x = Tensor.from(values, { device });
  const blocks = Tensor.empty([ggmlBytes(type, values.length)], { dtype: uint8, device });
  quantizeGgmlK(device.stream, { out: blocks.ptr, x: x.ptr, count: values.length, type: format });
  return QuantizedWeight.ggml(shape, type, blocks);
}

class Loss {
  #squaredError = 0;
  #squared = 0;

  add(original: Float32Array, values: Float32Array): void {
    for (const [i, x] of original.entries()) {
      this.#squaredError += (values[i]! - x) ** 2;
      this.#squared += x ** 2;
    }
  }

  get relativeL2(): number {
    return Math.sqrt(this.#squaredError / this.#squared);
  }
}
