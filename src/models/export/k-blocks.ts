import { float32, uint8 } from "../../base/dtype.ts";
import { UnsupportedError } from "../../base/errors.ts";
import { type GgmlType, ggmlBytes, ggmlType } from "../../base/ggml.ts";
import { elementCount } from "../../base/shape.ts";
import type { StoredWeight } from "../../formats/stored/stored-weights.ts";
import { type KFormat, kFormats, quantizeGgmlK } from "../../kernels/ggml/quantize.ts";
import { Tensor } from "../../tensor/tensor.ts";
import { hostBytes } from "./four-bit.ts";
import type { ModelValues } from "./model-values.ts";

const blockValues = 256;
/** Blocks that are quantized at a time: 16 MB of float32, a second on a software device, after which others get their turn. */
const sliceBlocks = 1 << 14;

/** Where a block has its scales in float16. */
const scalesAt: Readonly<Record<KFormat, readonly number[]>> = {
  ...{ q2_k: [80, 82], q3_k: [108], q4_k: [0, 2], q5_k: [0, 2], q6_k: [208] },
};

/** A K type, by the name that the kernels have for it. */
export function kFormat(type: GgmlType): KFormat | undefined {
  return kFormats.find((format) => format === type.name.toLowerCase());
}

/**
 * The blocks of a weight in a K type, quantized on the device from float32. Rows are whole blocks.
 * Throws UnsupportedError for values that are not finite, or too large for the scales.
 */
export async function quantizeToK(
  values: ModelValues,
  weight: StoredWeight,
  format: KFormat,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const type = ggmlType(format);
  // Plain weights become float32 slice by slice, so that an embedding is in device memory only once.
  const isStored = weight.kind === "plain" && !values.isLoaded(weight.name);
  using stored = await values.load(weight, isStored ? weight.dtype : float32);
  const blocks = elementCount(weight.shape) / blockValues;
  using rows = stored.reshape([blocks, blockValues]);
  const out = new Uint8Array(blocks * type.blockBytes);
  for (let begin = 0; begin < blocks; begin += sliceBlocks) {
    signal?.throwIfAborted();
    using slice = rows.narrow(0, begin, Math.min(sliceBlocks, blocks - begin));
    out.set(quantizeSlice(slice, format), begin * type.blockBytes);
    await new Promise((resolve) => setImmediate(resolve));
  }
  checkScales(weight.name, out, format);
  return out;
}

function quantizeSlice(slice: Tensor, type: KFormat): Uint8Array {
  const { device, size: count } = slice;
  using x = slice.to(float32);
  using blocks = Tensor.empty([ggmlBytes(ggmlType(type), count)], { dtype: uint8, device });
  quantizeGgmlK(device.stream, { out: blocks.ptr, x: x.ptr, count, type });
  return hostBytes(blocks);
}

function checkScales(name: string, blocks: Uint8Array, format: KFormat): void {
  const { blockBytes } = ggmlType(format);
  for (let at = 0; at < blocks.length; at += blockBytes) {
    // The upper byte of a float16: all bits of the exponent are set in what is not finite.
    if (scalesAt[format].every((scale) => (blocks[at + scale + 1]! & 0x7c) !== 0x7c)) continue;
    throw new UnsupportedError(
      `${name}: it holds values that are not finite, or too large for ${format.toUpperCase()}, whose scales are float16; choose bf16 or f32`,
    );
  }
}
