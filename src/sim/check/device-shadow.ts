import { maximumPages } from "../memory-map.ts";
import { type WasmMemory, wasm } from "../wasm/host.ts";

/** What is known of a byte of device memory. */
const states = { outside: 0, fresh: 1, written: 2, freed: 3 } as const;

/** Why an access is wrong, and the first byte that makes it so. */
export interface DeviceFault {
  readonly why: "outside" | "freed" | "unwritten";
  readonly offset: number;
}

const pageBytes = 65536;
const writtenWord = 0x02020202;

/**
 * One byte beside each byte of a device's linear memory: whether it is allocated, written, freed. It is itself
 * WebAssembly memory because that grows in place and takes no room where nothing was touched.
 */
export class DeviceShadow {
  readonly #memory: WasmMemory = new wasm.Memory({ initial: 0, maximum: maximumPages });
  #bytes: Uint8Array = new Uint8Array(0);
  #words: Uint32Array = new Uint32Array(0);

  allocate(offset: number, bytes: number): void {
    this.#reserve(offset + bytes);
    this.#bytes.fill(states.fresh, offset, offset + bytes);
  }

  free(offset: number, bytes: number): void {
    this.#bytes.fill(states.freed, offset, offset + bytes);
  }

  /** It may be allocated anew. */
  forget(offset: number, bytes: number): void {
    this.#bytes.fill(states.outside, offset, offset + bytes);
  }

  /** Written by the host, a copy or a fill. */
  write(offset: number, bytes: number): void {
    this.#bytes.fill(states.written, offset, offset + bytes);
  }

  /** A copy carries what was written and what was not. */
  copy(to: number, from: DeviceShadow, at: number, bytes: number): void {
    this.#bytes.set(from.#bytes.subarray(at, at + bytes), to);
  }

  /** A kernel's access, of a power of two of bytes at a multiple of it, or of some bytes anywhere. Marks what is written. */
  access(offset: number, bytes: number, reads: boolean, writes: boolean): DeviceFault | undefined {
    const words = this.#words;
    if ((offset & 3) === 0 && (bytes & 3) === 0) {
      const end = (offset + bytes) >>> 2;
      let at = offset >>> 2;
      while (at < end && words[at] === writtenWord) at++;
      if (at === end) return undefined;
    }
    return this.#accessBytes(offset, bytes, reads, writes);
  }

  #accessBytes(offset: number, bytes: number, reads: boolean, writes: boolean): DeviceFault | undefined {
    const shadow = this.#bytes;
    for (let at = offset; at < offset + bytes; at++) {
      const state = shadow[at] ?? states.outside;
      if (state === states.outside) return { why: "outside", offset: at };
      if (state === states.freed) return { why: "freed", offset: at };
      if (reads && state === states.fresh) return { why: "unwritten", offset: at };
    }
    if (writes) shadow.fill(states.written, offset, offset + bytes);
    return undefined;
  }

  #reserve(bytes: number): void {
    if (bytes <= this.#bytes.length) return;
    // In larger steps, as growing takes time.
    const pages = Math.max(Math.ceil((bytes - this.#bytes.length) / pageBytes), 1024);
    this.#memory.grow(Math.min(pages, maximumPages - this.#bytes.length / pageBytes));
    this.#bytes = new Uint8Array(this.#memory.buffer);
    this.#words = new Uint32Array(this.#memory.buffer);
  }
}
