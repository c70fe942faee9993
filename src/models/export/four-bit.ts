import { float32, uint8 } from "../../base/dtype.ts";
import type { FourBitType } from "../../base/four-bit.ts";
import type { FourBitBytes } from "../../formats/stored/bitsandbytes-write.ts";
import { dynamicCode, nestedBlockSize } from "../../kernels/nf4/levels.ts";
import { nestAbsmax, quantizeCode4 } from "../../kernels/nf4/nf4.ts";
import { Tensor } from "../../tensor/tensor.ts";

/** What transformers quantizes with. */
export const exportBlockSize = 64;

/** A quantized matrix on the host, and the offset of its absmax under double quantization. */
export interface Quantized {
  readonly bytes: FourBitBytes;
  readonly offset: number;
}

/** Quantizes a contiguous float tensor on its device, bit for bit as bitsandbytes does, and brings the parts to the host. */
export function quantizeToHost(x: Tensor, type: FourBitType, nested: boolean): Quantized {
  const { device, size: count } = x;
  const blocks = Math.ceil(count / exportBlockSize);
  using packed = Tensor.empty([Math.ceil(count / 2)], { dtype: uint8, device });
  using absmax = Tensor.empty([blocks], { dtype: float32, device });
  quantizeCode4(device.stream, {
    packed: packed.ptr,
    absmax: absmax.ptr,
    x: x.ptr,
    count,
    blockSize: exportBlockSize,
    dtype: x.dtype,
    type,
  });
  if (!nested) {
    return { bytes: { packed: hostBytes(packed), absmax: absmax.cpu().data as Float32Array }, offset: 0 };
  }
  const code = dynamicCode();
  using codeOnDevice = Tensor.from(code, { device });
  using offset = Tensor.empty([1], { dtype: float32, device });
  using bytes = Tensor.empty([blocks], { dtype: uint8, device });
  using nestedAbsmax = Tensor.empty([Math.ceil(blocks / nestedBlockSize)], { dtype: float32, device });
  nestAbsmax(device.stream, {
    bytes: bytes.ptr,
    nestedAbsmax: nestedAbsmax.ptr,
    offset: offset.ptr,
    absmax: absmax.ptr,
    code: codeOnDevice.ptr,
    count: blocks,
  });
  return {
    bytes: {
      packed: hostBytes(packed),
      absmax: hostBytes(bytes),
      nested: { absmax: nestedAbsmax.cpu().data as Float32Array, code },
    },
    offset: offset.item(),
  };
}

/** A tensor's elements as they lie in memory. */
export function hostBytes(tensor: Tensor): Uint8Array {
  const { data } = tensor.cpu();
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
