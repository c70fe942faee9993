import { StateError } from "../../base/errors.ts";
import { type DevicePtr, nullPtr, ptrAdd } from "../api.ts";
import type { DeviceBuffer } from "../memory.ts";
import type { Stream } from "../stream.ts";
import type { Block } from "./segment.ts";

/**
 * A buffer's claim on the pool, apart from the buffer so that the pool can hold it while the buffer itself may be
 * collected. `block` is undefined for a buffer of zero bytes.
 */
export interface Lease {
  readonly block: Block | undefined;
  readonly bytes: number;
  readonly tag: string;
  /** Streams other than the block's own that use the memory. */
  readonly otherStreams: Set<Stream>;
  released: boolean;
}

export class PooledBuffer implements DeviceBuffer {
  readonly bytes: number;
  readonly #lease: Lease;
  readonly #ptr: DevicePtr;
  readonly #release: (lease: Lease, buffer: PooledBuffer) => void;

  constructor(lease: Lease, release: (lease: Lease, buffer: PooledBuffer) => void) {
    this.bytes = lease.bytes;
    this.#lease = lease;
    this.#ptr = lease.block ? ptrAdd(lease.block.segment.ptr, lease.block.offset) : nullPtr;
    this.#release = release;
  }

  get disposed(): boolean {
    return this.#lease.released;
  }

  get ptr(): DevicePtr {
    this.#check();
    return this.#ptr;
  }

  recordStream(stream: Stream): void {
    this.#check();
    const block = this.#lease.block;
    if (block && stream !== block.segment.stream) this.#lease.otherStreams.add(stream);
  }

  dispose(): void {
    if (!this.#lease.released) this.#release(this.#lease, this);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #check(): void {
    if (!this.#lease.released) return;
    throw new StateError(
      `device buffer "${this.#lease.tag}" (${this.bytes} bytes): used after dispose(); its memory may already belong to something else`,
    );
  }
}
