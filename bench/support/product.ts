import { type DType, dtype as dtypeOf } from "../../src/base/dtype.ts";
import { ArgumentError, UnsupportedError } from "../../src/base/errors.ts";
import { type DevicePtr, ptrAdd } from "../../src/driver/api.ts";
import type { Device } from "../../src/driver/device.ts";
import { type MatmulKernelName, type MatmulParams, matmul } from "../../src/kernels/matmul/matmul.ts";
import type { Probes } from "./probes.ts";
import { setsBeyondL2, type Timing, type TimingOptions, timeRotating } from "./timing.ts";

/** D[M, N] = A[M, K] · B[N, K]^T, as a linear layer computes it. */
export interface ProductShape {
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

export function productFlops({ m, n, k }: ProductShape): number {
  return 2 * m * n * k;
}

/** Each operand and the result once. */
export function productBytes({ m, n, k }: ProductShape, dtype: DType): number {
  return (m * k + n * k + m * n) * dtype.bytes;
}

/** Which implementation: a choice left to `matmul`, or one kernel, with a tile shape if one is named (`hopper:m128n256`). */
export interface ProductKernel {
  readonly label: string;
  readonly params: Pick<MatmulParams, "kernel" | "tile" | "backend">;
}

const kernelNames = [
  "simt",
  "gemv",
  "gemv_mma",
  "wmma",
  "mma",
  "hopper",
  "cublaslt",
] as const satisfies MatmulKernelName[];

/** `own` (this project's kernels, as `matmul` picks them), a kernel's name, or a name and a tile: `hopper:m128n256`. */
export function parseKernel(text: string): ProductKernel {
  if (text === "own") return { label: text, params: { backend: "own" } };
  const [name, tile] = text.split(":", 2);
  const kernel = kernelNames.find((known) => known === name);
  if (!kernel) throw new ArgumentError(`--kernels: "${text}" is no kernel; use own, ${kernelNames.join(", ")}`);
  return { label: text, params: tile === undefined ? { kernel } : { kernel, tile } };
}

/** `4096x4096x4096,512x14336x4096`, each MxNxK; one number stands for a cube. */
export function parseShapes(text: string): ProductShape[] {
  return text.split(",").map((part) => {
    const sizes = part.split("x").map(Number);
    const [m = 0, n = m, k = m] = sizes;
    if (sizes.length === 2 || sizes.length > 3 || [m, n, k].some((size) => !Number.isSafeInteger(size) || size < 1)) {
      throw new ArgumentError(`--shapes: "${part}" is not MxNxK, such as 4096x4096x4096, nor one size for all three`);
    }
    return { m, n, k };
  });
}

/** The element types that the matrix products are measured in. Throws ArgumentError. */
export function parseDtype(text: string): DType {
  const dtype = dtypeOf(text);
  if (!dtype.isFloat)
    throw new ArgumentError(`--dtype: ${dtype.name} has no matrix product; use bfloat16, float16 or float32`);
  return dtype;
}

/** Operands of one shape, in as many sets as keep them out of L2. */
export class ProductData implements Disposable {
  readonly device: Device;
  readonly shape: ProductShape;
  readonly dtype: DType;
  readonly sets: number;
  readonly #setBytes: number;
  readonly #bBytes: number;
  readonly #aBytes: number;
  readonly #buffer;

  constructor(device: Device, probes: Probes, shape: ProductShape, dtype: DType) {
    this.device = device;
    this.shape = shape;
    this.dtype = dtype;
    const aligned = (elements: number): number => Math.ceil((elements * dtype.bytes) / 256) * 256;
    this.#bBytes = aligned(shape.n * shape.k);
    this.#aBytes = aligned(shape.m * shape.k);
    this.#setBytes = this.#bBytes + this.#aBytes + aligned(shape.m * shape.n);
    this.sets = setsBeyondL2(device, this.#setBytes);
    this.#buffer = device.allocate(this.#setBytes * this.sets, { tag: "bench" });
    probes.fillRandom(this.#buffer.ptr, this.#setBytes * this.sets, dtype, 1);
  }

  /** Times `kernel`, or returns why it cannot run this shape here. */
  time(kernel: ProductKernel, options?: TimingOptions): Timing | UnsupportedError {
    try {
      return timeRotating(this.device, this.sets, (set) => this.#launch(kernel, set), options);
    } catch (error) {
      if (error instanceof UnsupportedError) return error;
      throw error;
    }
  }

  #launch(kernel: ProductKernel, set: number): void {
    const b: DevicePtr = ptrAdd(this.#buffer.ptr, this.#setBytes * set);
    const a = ptrAdd(b, this.#bBytes);
    const out = ptrAdd(a, this.#aBytes);
    matmul(this.device.stream, { out, a, b, ...this.shape, dtype: this.dtype, transposeB: true, ...kernel.params });
  }

  [Symbol.dispose](): void {
    this.#buffer.dispose();
  }
}
