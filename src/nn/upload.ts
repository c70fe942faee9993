import { ptrAdd } from "../driver/api.ts";
import type { Device } from "../driver/device.ts";
import type { Event } from "../driver/event.ts";
import type { DeviceBuffer } from "../driver/memory.ts";
import type { PinnedBuffer } from "../driver/pinned.ts";
import type { Stream } from "../driver/stream.ts";
import type { WeightSource } from "../formats/weight-source.ts";
import { cast } from "../kernels/copy/copy.ts";
import type { Upload } from "./upload-plan.ts";

export interface UploadProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface UploadOptions {
  readonly onProgress?: (progress: UploadProgress) => void;
  readonly signal?: AbortSignal;
}

/** Bytes that travel together: large enough that a read and a copy cost little more than their bytes. */
const chunkBytes = 16 * 2 ** 20;
/** Chunks under way: Node's pool runs four file reads at a time, and two more are on their way to the GPU. */
const slotCount = 6;

/** Part of one tensor, and where it lies in the chunk it travels with. */
export interface Segment {
  readonly upload: Upload;
  readonly chunkOffset: number;
  /** From the start of the checkpoint's tensor. */
  readonly tensorOffset: number;
  readonly bytes: number;
}

export interface Chunk {
  bytes: number;
  readonly segments: Segment[];
}

/**
 * Streams weights from files to the device: each byte is read once into page-locked memory, copied asynchronously, and
 * converted on the device where the file's dtype is not the model's. Host memory is `slotCount` chunks at most, however
 * large the checkpoint. Resolves when every value is in place. Rejects with the reader's error, or the signal's reason.
 */
export async function uploadWeights(
  source: WeightSource,
  uploads: readonly Upload[],
  device: Device,
  options: UploadOptions = {},
): Promise<void> {
  const largest = planChunks(uploads, chunkBytes).reduce((most, chunk) => Math.max(most, chunk.bytes), 0);
  using uploader = new WeightUploader(source, device, largest);
  await uploader.upload(uploads, options);
}

/** What `uploadWeights` does, time after time through the same page-locked memory, whose allocation takes longer than a copy. */
export class WeightUploader implements Disposable {
  readonly #source: WeightSource;
  readonly #device: Device;
  readonly #slotBytes: number;
  readonly #slots: Slot[] = [];

  /** No upload's chunks are larger than `slotBytes`. */
  constructor(source: WeightSource, device: Device, slotBytes = chunkBytes) {
    this.#source = source;
    this.#device = device;
    this.#slotBytes = slotBytes;
  }

  /** One call at a time. When it resolves, all copies are queued to the device's stream. */
  async upload(uploads: readonly Upload[], options: UploadOptions = {}): Promise<void> {
    const chunks = planChunks(uploads, chunkBytes);
    const totalBytes = uploads.reduce((sum, upload) => sum + upload.info.byteLength, 0);
    let doneBytes = 0;
    let next = 0;
    const count = Math.min(slotCount, chunks.length);
    while (this.#slots.length < count) this.#slots.push(new Slot(this.#device, this.#slotBytes));
    let failed = false;
    const work = async (slot: Slot) => {
      for (let chunk = chunks[next++]; chunk && !failed; chunk = chunks[next++]) {
        options.signal?.throwIfAborted();
        slot.reuse();
        await Promise.all(
          chunk.segments.map(({ upload, tensorOffset, chunkOffset, bytes }) =>
            this.#source.readInto(upload.info, tensorOffset, slot.bytes.subarray(chunkOffset, chunkOffset + bytes)),
          ),
        );
        slot.submit(chunk);
        for (const segment of chunk.segments) doneBytes += segment.bytes;
        options.onProgress?.({ doneBytes, totalBytes });
      }
    };
    const results = await Promise.allSettled(
      this.#slots.slice(0, count).map((slot) =>
        work(slot).catch((error: unknown) => {
          failed = true;
          throw error;
        }),
      ),
    );
    for (const result of results) if (result.status === "rejected") throw result.reason;
  }

  dispose(): void {
    for (const slot of this.#slots.splice(0)) slot.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Cuts the uploads into chunks of at most `limit` bytes (a multiple of 16), in the order of the files. */
export function planChunks(uploads: readonly Upload[], limit: number): Chunk[] {
  const ordered = [...uploads].sort((a, b) =>
    a.info.file === b.info.file ? a.info.byteOffset - b.info.byteOffset : a.info.file < b.info.file ? -1 : 1,
  );
  const chunks: Chunk[] = [];
  let current: Chunk = { bytes: 0, segments: [] };
  for (const upload of ordered) {
    for (let done = 0; done < upload.info.byteLength; ) {
      // Segments start at multiples of 16, so that none begins or ends inside an element.
      let start = Math.ceil(current.bytes / 16) * 16;
      if (start >= limit) {
        current = { bytes: 0, segments: [] };
        start = 0;
      }
      if (current.segments.length === 0) chunks.push(current);
      const bytes = Math.min(upload.info.byteLength - done, limit - start);
      current.segments.push({ upload, chunkOffset: start, tensorOffset: done, bytes });
      current.bytes = start + bytes;
      done += bytes;
    }
  }
  return chunks;
}

/** A page-locked buffer on its way between a file and the device. */
class Slot implements Disposable {
  readonly #device: Device;
  readonly #stream: Stream;
  readonly #pinned: PinnedBuffer;
  readonly #copied: Event;
  readonly bytes: Uint8Array;
  #staging: DeviceBuffer | undefined;
  #inFlight = false;

  constructor(device: Device, size: number) {
    this.#device = device;
    this.#stream = device.stream;
    this.#pinned = device.allocatePinned(size);
    this.bytes = new Uint8Array(this.#pinned.buffer, 0, size);
    this.#copied = device.createEvent();
  }

  /** Waits until the device has taken what was submitted last. */
  reuse(): void {
    if (this.#inFlight) this.#copied.synchronize();
    this.#inFlight = false;
  }

  submit(chunk: Chunk): void {
    for (const segment of chunk.segments) {
      const { from, target, targetOffset } = segment.upload;
      const first = targetOffset + segment.tensorOffset / from.bytes;
      const destination = ptrAdd(target.ptr, first * target.dtype.bytes);
      if (from === target.dtype) {
        this.#stream.copyToDevice(destination, this.#pinned, segment.chunkOffset, segment.bytes);
        segment.upload.queued?.(segment.bytes);
        continue;
      }
      // Kernels run in stream order, so one staging buffer serves every segment of this slot.
      this.#staging ??= this.#device.allocate(this.bytes.length, { tag: "weight staging" });
      this.#stream.copyToDevice(this.#staging.ptr, this.#pinned, segment.chunkOffset, segment.bytes);
      cast(this.#stream, {
        out: destination,
        outDType: target.dtype,
        x: this.#staging.ptr,
        dtype: from,
        count: segment.bytes / from.bytes,
      });
      segment.upload.queued?.(segment.bytes);
    }
    this.#stream.record(this.#copied);
    this.#inFlight = true;
  }

  dispose(): void {
    this.reuse();
    this.#staging?.dispose();
    this.#copied.dispose();
    this.#pinned.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
