import { type DType, uint8 } from "../../src/base/dtype.ts";
import { ArgumentError, UnsupportedError } from "../../src/base/errors.ts";
import { type GgmlType, ggmlBytes, ggmlType } from "../../src/base/ggml.ts";
import { ptrAdd } from "../../src/driver/api.ts";
import type { Device } from "../../src/driver/device.ts";
import { ggmlFormats } from "../../src/kernels/ggml/ggml.ts";
import { type QuantKernelName, quantKernelNames } from "../../src/kernels/quant-matmul/params.ts";
import {
  dequantizeWeight,
  type QuantMatmulParams,
  quantChoice,
  quantMatmul,
} from "../../src/kernels/quant-matmul/quant-matmul.ts";
import { QuantizedWeight, type QuantizeOptions } from "../../src/tensor/quantized-weight.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import type { Probes } from "./probes.ts";
import { type ProductShape, parseDtype } from "./product.ts";
import { setsBeyondL2, type Timing, type TimingOptions, timeRotating } from "./timing.ts";

/** How a weight is stored: 4-bit codes as bitsandbytes writes them, of values in `of` (or the product's dtype), or a GGML type. */
export type StoredAs = { readonly codes: QuantizeOptions; readonly of?: DType } | { readonly blocks: GgmlType };

const codes: Readonly<Record<string, QuantizeOptions>> = {
  nf4: { type: "nf4" },
  "nf4-dq": { type: "nf4", nested: true },
  fp4: { type: "fp4" },
  "fp4-dq": { type: "fp4", nested: true },
};

/** `nf4`, `nf4-dq` (double quantization), `fp4`, `fp4-dq`, or a GGML type: `q4_k`. `of`: see StoredAs. Throws ArgumentError. */
export function parseStored(text: string, of?: string): StoredAs {
  const options = codes[text];
  if (options) return { codes: options, ...(of !== undefined && { of: parseDtype(of) }) };
  const format = ggmlFormats.find((known) => known === text);
  if (format) return { blocks: ggmlType(format) };
  throw new ArgumentError(
    `--quant: "${text}" is not known; use one of ${[...Object.keys(codes), ...ggmlFormats].join(", ")}`,
  );
}

/** `own`: what quantMatmul chooses; or one of its kernels. Throws ArgumentError. */
export function parseQuantKernel(text: string): QuantKernelName | undefined {
  if (text === "own") return undefined;
  const kernel = quantKernelNames.find((known) => known === text);
  if (kernel) return kernel;
  throw new ArgumentError(
    `--kernel: "${text}" multiplies with no quantized weight; use own, ${quantKernelNames.join(", ")}`,
  );
}

/** Weights of one shape and type, in as many copies as keep them out of L2, with room for `mostRows` of x and D. */
export class QuantProductData implements Disposable {
  /** Bytes of one weight as stored. */
  readonly weightBytes: number;
  readonly #device: Device;
  readonly #dtype: DType;
  readonly #n: number;
  readonly #k: number;
  readonly #weights: QuantizedWeight[] = [];
  readonly #rows;
  readonly #xBytes: number;
  readonly #rowsBytes: number;

  constructor(device: Device, probes: Probes, { m, n, k }: ProductShape, dtype: DType, stored: StoredAs) {
    this.#device = device;
    this.#dtype = dtype;
    this.#n = n;
    this.#k = k;
    this.#weights.push(randomWeight(device, probes, [n, k], dtype, stored, 1));
    this.weightBytes = this.#weights[0]!.sizeBytes;
    const sets = setsBeyondL2(device, this.weightBytes);
    for (let seed = 2; seed <= sets; seed++) {
      this.#weights.push(randomWeight(device, probes, [n, k], dtype, stored, seed));
    }
    const aligned = (elements: number): number => Math.ceil((elements * dtype.bytes) / 256) * 256;
    this.#xBytes = aligned(m * k);
    this.#rowsBytes = this.#xBytes + aligned(m * n);
    this.#rows = device.allocate(this.#rowsBytes * sets, { tag: "bench" });
    probes.fillRandom(this.#rows.ptr, this.#rowsBytes * sets, dtype, 1);
  }

  #params(set: number, m: number, kernel: QuantKernelName | undefined, overlap = false): QuantMatmulParams {
    const x = ptrAdd(this.#rows.ptr, this.#rowsBytes * set);
    return {
      out: ptrAdd(x, this.#xBytes),
      x,
      weight: this.#weights[set]!.data,
      m,
      n: this.#n,
      k: this.#k,
      dtype: this.#dtype,
      overlap,
      ...(kernel && { kernel }),
    };
  }

  /**
   * Times the product with `m` rows, and says which kernel it was; or returns why `kernel` cannot compute it. With `overlap` a
   * launch may begin before the one before it has ended, as those of a decoding step do.
   */
  time(
    m: number,
    kernel: QuantKernelName | undefined,
    options?: TimingOptions & { readonly overlap?: boolean },
  ): { readonly kernel: QuantKernelName; readonly timing: Timing } | UnsupportedError {
    const { stream } = this.#device;
    try {
      const choice = quantChoice(stream, this.#params(0, m, kernel));
      const submit = (set: number) => quantMatmul(stream, this.#params(set, m, kernel, options?.overlap));
      return { kernel: choice.kernel, timing: timeRotating(this.#device, this.#weights.length, submit, options) };
    } catch (error) {
      if (error instanceof UnsupportedError) return error;
      throw error;
    }
  }

  /** Times the weight's way to [N, K] in the dtype: reads `weightBytes`, writes N·K elements. */
  timeDequantize(options?: TimingOptions): Timing {
    const count = this.#n * this.#k;
    const sets = this.#weights.length;
    const bytes = count * this.#dtype.bytes;
    using out = this.#device.allocate(bytes * sets, { tag: "bench" });
    const [rows, k, dtype] = [this.#n, this.#k, this.#dtype];
    const submit = (set: number) =>
      dequantizeWeight(this.#device.stream, this.#weights[set]!.data, {
        out: ptrAdd(out.ptr, bytes * set),
        rows,
        k,
        dtype,
      });
    return timeRotating(this.#device, sets, submit, options);
  }

  [Symbol.dispose](): void {
    for (const weight of this.#weights) weight.dispose();
    this.#rows.dispose();
  }
}

/** Normal numbers in 4-bit codes, or GGML blocks of random bits. */
export function randomWeight(
  device: Device,
  probes: Probes,
  shape: [number, number],
  dtype: DType,
  stored: StoredAs,
  seed: number,
): QuantizedWeight {
  if ("codes" in stored) {
    using values = Tensor.randn(shape, { dtype: stored.of ?? dtype, device, seed });
    return QuantizedWeight.quantize(values, stored.codes);
  }
  const bytes = ggmlBytes(stored.blocks, shape[0] * shape[1]);
  const blocks = Tensor.empty([bytes], { dtype: uint8, device });
  probes.fillBits(blocks.ptr, bytes, seed);
  return QuantizedWeight.ggml(shape, stored.blocks, blocks);
}
