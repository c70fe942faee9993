import { type DType, float32, uint8 } from "../../base/dtype.ts";
import { decodeArray, encodeArray } from "../../base/element.ts";
import { UnsupportedError } from "../../base/errors.ts";
import { fourBitLevels } from "../../base/four-bit.ts";
import { elementCount } from "../../base/shape.ts";
import type { Device } from "../../driver/device.ts";
import type { FourBitWeight } from "../../formats/stored/bitsandbytes.ts";
import { type StoredWeight, storedTypeName } from "../../formats/stored/stored-weights.ts";
import type { TensorInfo, WeightSource } from "../../formats/weight-source.ts";
import { dequantizeGgml, ggmlFormat } from "../../kernels/ggml/ggml.ts";
import { dequantizeCode4 } from "../../kernels/nf4/nf4.ts";
import { WeightUploader } from "../../nn/upload.ts";
import { Tensor } from "../../tensor/tensor.ts";

/** Elements that are converted at a time on the host, through float64. */
const sliceElements = 1 << 20;

/** The values of stored weights, whatever their format, one at a time. */
export class StoredValues implements Disposable {
  readonly #source: WeightSource;
  readonly #open: () => Device;
  #opened: Device | undefined;
  #uploader: WeightUploader | undefined;

  /** `device` is asked when one is needed first: for quantized weights, and for values that are to be on it. */
  constructor(source: WeightSource, device: () => Device) {
    this.#source = source;
    this.#open = device;
  }

  get #device(): Device {
    this.#opened ??= this.#open();
    return this.#opened;
  }

  /** The bytes of one tensor, whole, as the file has them. */
  async bytes(info: TensorInfo): Promise<Uint8Array> {
    const bytes = new Uint8Array(info.byteLength);
    await this.#source.readInto(info, 0, bytes);
    return bytes;
  }

  /** A plain weight's elements in `dtype`, rounded once, without a device. */
  async convert(weight: StoredWeight & { kind: "plain" }, dtype: DType): Promise<Uint8Array> {
    const bytes = await this.bytes(weight.info);
    if (weight.dtype === dtype) return bytes;
    const stored = weight.dtype.view(bytes);
    const out = new Uint8Array(stored.length * dtype.bytes);
    for (let begin = 0; begin < stored.length; begin += sliceElements) {
      const { buffer } = encodeArray(dtype, decodeArray(weight.dtype, stored.subarray(begin, begin + sliceElements)));
      out.set(new Uint8Array(buffer), begin * dtype.bytes);
      await new Promise((resolve) => setImmediate(resolve));
    }
    return out;
  }

  /** A float weight in its shape on the device, in `dtype`: dequantized in float32 and rounded once, 4-bit codes to what they dequantize to. Dispose it. */
  async load(weight: StoredWeight, dtype: DType): Promise<Tensor> {
    switch (weight.kind) {
      case "plain": {
        const stored = await this.#upload(weight.info, weight.dtype, weight.shape);
        if (weight.dtype === dtype) return stored;
        using _ = stored;
        return stored.to(dtype);
      }
      case "ggml": {
        const type = ggmlFormat(weight.type);
        if (!type) break;
        using blocks = await this.#upload(weight.info, uint8);
        const cols = weight.shape.at(-1)!;
        const out = Tensor.empty(weight.shape, { dtype, device: this.#device });
        const n = elementCount(weight.shape) / cols;
        dequantizeGgml(this.#device.stream, { out: out.ptr, blocks: blocks.ptr, type, n, cols, dtype });
        return out;
      }
      case "bnb4": {
        // bitsandbytes multiplies with values of the dtype that the weight was quantized from.
        const values = await this.#dequantize(weight, weight.dtype);
        if (weight.dtype === dtype) return values;
        using _ = values;
        return values.to(dtype);
      }
    }
    throw new UnsupportedError(`${weight.name}: weights of type ${storedTypeName(weight)} cannot be converted`);
  }

  async #dequantize(weight: FourBitWeight, dtype: DType): Promise<Tensor> {
    const { nested, shape, blockSize } = weight;
    using packed = await this.#upload(weight.packed, uint8);
    using absmax = await this.#upload(weight.absmax, nested ? uint8 : float32);
    using levels = Tensor.from(fourBitLevels[weight.type], { device: this.#device });
    using nestedAbsmax = nested && (await this.#upload(nested.absmax, float32));
    using nestedCode = nested && (await this.#upload(nested.code, float32));
    const out = Tensor.empty(shape, { dtype, device: this.#device });
    const data = {
      packed: packed.ptr,
      absmax: absmax.ptr,
      code: levels.ptr,
      blockSize,
      ...(nested && { nested: { absmax: nestedAbsmax!.ptr, code: nestedCode!.ptr, offset: nested.offset } }),
    };
    dequantizeCode4(this.#device.stream, data, { out: out.ptr, count: elementCount(shape), dtype });
    return out;
  }

  /** Without a shape: one dimension. */
  async #upload(info: TensorInfo, dtype: DType, shape?: readonly number[]): Promise<Tensor> {
    const device = this.#device;
    this.#uploader ??= new WeightUploader(this.#source, device);
    const target = Tensor.empty(shape ?? [info.byteLength / dtype.bytes], { dtype, device });
    try {
      await this.#uploader.upload([{ info, from: dtype, target, targetOffset: 0 }]);
      return target;
    } catch (error) {
      target.dispose();
      throw error;
    }
  }

  /** Gives back what loading has in page-locked memory. */
  dispose(): void {
    this.#uploader?.dispose();
    this.#uploader = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
