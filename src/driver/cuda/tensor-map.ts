import { UnsupportedError } from "../../base/errors.ts";
import type { FfiEngine, NativeBlock } from "../../ffi/engine.ts";
import type { HostBlock, TensorMapLayout } from "../api.ts";
import type { CudaDriver } from "./load.ts";

/** CUtensorMapDataType and CUtensorMapSwizzle, from cuda.h. */
const elementTypes = { u8: 0, f16: 6, f32: 7, bf16: 9 } as const;
const swizzles = { 0: 0, 32: 1, 64: 2, 128: 3 } as const;
const CU_TENSOR_MAP_INTERLEAVE_NONE = 0;
const CU_TENSOR_MAP_L2_PROMOTION_L2_256B = 3;
const CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE = 0; // which fills with zeros; the alternative is NaN

/** Sizes (5 x u64), strides (4 x u64), box (5 x u32) and element strides (5 x u32) of one call, in this order. */
const offsets = { dims: 0, strides: 40, box: 72, elementStrides: 92, bytes: 112 } as const;

/** Encodes CUtensorMaps: how sm_90's bulk copies address an array. */
export class TensorMapEncoder {
  readonly #cu: CudaDriver;
  readonly #scratch: NativeBlock;

  constructor(cu: CudaDriver, engine: FfiEngine) {
    this.#cu = cu;
    this.#scratch = engine.alloc(offsets.bytes);
  }

  /** Writes the 128 bytes of the map to `map`, which is 64-byte aligned. */
  encode(map: HostBlock, layout: TensorMapLayout): void {
    if (!this.#cu.has("tensorMapEncodeTiled")) {
      throw new UnsupportedError(
        "tensor map: this NVIDIA driver has no cuTensorMapEncodeTiled, which came with CUDA 12.0; update it",
      );
    }
    const view = new DataView(this.#scratch.buffer);
    for (const [i, n] of layout.dims.entries()) {
      view.setBigUint64(offsets.dims + 8 * i, BigInt(n), true);
      view.setUint32(offsets.box + 4 * i, layout.box[i]!, true);
      view.setUint32(offsets.elementStrides + 4 * i, 1, true);
    }
    for (const [i, n] of layout.strideBytes.entries()) view.setBigUint64(offsets.strides + 8 * i, BigInt(n), true);
    const at = (offset: number): bigint => this.#scratch.address + BigInt(offset);
    this.#cu.calls.tensorMapEncodeTiled(
      map.address,
      elementTypes[layout.element],
      layout.dims.length,
      layout.address,
      at(offsets.dims),
      at(offsets.strides),
      at(offsets.box),
      at(offsets.elementStrides),
      CU_TENSOR_MAP_INTERLEAVE_NONE,
      swizzles[layout.swizzle],
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
    );
  }
}
