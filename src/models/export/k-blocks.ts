import { float32, uint8 } from "../../base/dtype.ts";
import { UnsupportedError } from "../../base/errors.ts";
import { type GgmlType, ggmlBytes, ggmlType } from "../../base/ggml.ts";
import type { Device } from "../../driver/device.ts";
import type { Event } from "../../driver/event.ts";
import type { PinnedBuffer } from "../../driver/pinned.ts";
import { type KFormat, kFormats, quantizeGgmlK } from "../../kernels/ggml/quantize.ts";
import { Tensor } from "../../tensor/tensor.ts";

const blockValues = 256;
/** Blocks that are quantized at a time: 16 MB of float32, a second on a software device, after which others get their turn. */
const sliceBlocks = 1 << 14;
const sliceBytes = sliceBlocks * Math.max(...kFormats.map((format) => ggmlType(format).blockBytes));

/** Where a block has its scales in float16. */
const scalesAt: Readonly<Record<KFormat, readonly number[]>> = {
  ...{ q2_k: [80, 82], q3_k: [108], q4_k: [0, 2], q5_k: [0, 2], q6_k: [208] },
};

/** A K type, by the name that the kernels have for it. */
export function kFormat(type: GgmlType): KFormat | undefined {
  return kFormats.find((format) => format === type.name.toLowerCase());
}

/** Quantizes tensors to K types on their device and brings the blocks to the host, one slice while the next is computed. */
export class KQuantizer implements Disposable {
  #landings: readonly Landing[] = [];

  /**
   * Gives the blocks of a contiguous float tensor, whose rows are whole blocks, piece by piece; a piece is there until `give` returns.
   * Values become float32 by the slice, so that a tensor of 16 bits is in device memory only once. `name` is for messages.
   * Throws UnsupportedError for values that are not finite, or too large for the scales.
   */
  async quantize(
    name: string,
    x: Tensor,
    format: KFormat,
    give: (bytes: Uint8Array) => void,
    signal?: AbortSignal,
  ): Promise<void> {
    if (this.#landings.length === 0) this.#landings = [new Landing(x.device), new Landing(x.device)];
    const blocks = x.size / blockValues;
    using rows = x.reshape([blocks, blockValues]);
    const take = (landing: Landing) => {
      const bytes = landing.wait();
      checkScales(name, bytes, format);
      give(bytes);
    };
    let [current, other] = this.#landings as [Landing, Landing];
    for (let begin = 0; begin < blocks; begin += sliceBlocks) {
      signal?.throwIfAborted();
      using slice = rows.narrow(0, begin, Math.min(sliceBlocks, blocks - begin));
      current.start(slice, format);
      if (begin > 0) take(other);
      [current, other] = [other, current];
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (blocks > 0) take(other);
  }

  dispose(): void {
    for (const landing of this.#landings) landing.dispose();
    this.#landings = [];
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Page-locked memory for the blocks of a slice on their way from the device. */
class Landing implements Disposable {
  readonly #pinned: PinnedBuffer;
  readonly #arrived: Event;
  #bytes = 0;

  constructor(device: Device) {
    this.#pinned = device.allocatePinned(sliceBytes);
    this.#arrived = device.createEvent();
  }

  start(slice: Tensor, type: KFormat): void {
    const { device, size: count } = slice;
    using x = slice.to(float32);
    this.#bytes = ggmlBytes(ggmlType(type), count);
    using blocks = Tensor.empty([this.#bytes], { dtype: uint8, device });
    quantizeGgmlK(device.stream, { out: blocks.ptr, x: x.ptr, count, type });
    device.stream.copyToHost(this.#pinned, 0, blocks.ptr, this.#bytes);
    device.stream.record(this.#arrived);
  }

  /** The blocks, until the next start. */
  wait(): Uint8Array {
    this.#arrived.synchronize();
    return new Uint8Array(this.#pinned.buffer, 0, this.#bytes);
  }

  dispose(): void {
    if (this.#bytes > 0) this.#arrived.synchronize();
    this.#arrived.dispose();
    this.#pinned.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function checkScales(name: string, blocks: Uint8Array, format: KFormat): void {
  const { blockBytes } = ggmlType(format);
  for (const scale of scalesAt[format]) {
    // The upper byte of a float16: all bits of the exponent are set in what is not finite.
    for (let at = scale + 1; at < blocks.length; at += blockBytes) {
      if ((blocks[at]! & 0x7c) !== 0x7c) continue;
      throw new UnsupportedError(
        `${name}: it holds values that are not finite, or too large for ${format.toUpperCase()}, whose scales are float16; choose bf16 or f32`,
      );
    }
  }
}
