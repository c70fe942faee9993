import { maximumPages, memoryMap } from "../memory-map.ts";
import { type WasmMemory, wasm } from "../wasm/host.ts";

const pageBytes = 65536;

/** One device's WebAssembly memory and typed views of it, which change when it grows: read them from here each time. */
export class LinearMemory {
  readonly memory: WasmMemory;
  i32!: Int32Array;
  u32!: Uint32Array;
  u16!: Uint16Array;
  u8!: Uint8Array;
  f32!: Float32Array;
  f64!: Float64Array;
  u64!: BigUint64Array;

  /** A new memory, to be shared between threads or not; or one of another thread. */
  constructor(of: { readonly shared: boolean } | WasmMemory) {
    this.memory =
      "buffer" in of
        ? of
        : new wasm.Memory({ initial: memoryMap.heap / pageBytes, maximum: maximumPages, shared: of.shared });
    this.#view();
  }

  get shared(): boolean {
    return this.memory.buffer instanceof SharedArrayBuffer;
  }

  /** After another thread may have grown the memory. */
  refresh(): void {
    if (this.memory.buffer !== this.i32.buffer) this.#view();
  }

  get bytes(): number {
    return this.memory.buffer.byteLength;
  }

  /** Grows until `bytes` are there; false when that is more than there can be, or the host refuses. */
  reserve(bytes: number): boolean {
    if (bytes <= this.bytes) return true;
    const pages = Math.ceil((bytes - this.bytes) / pageBytes);
    // In larger steps, so that views seldom change.
    const generous = Math.min(Math.max(pages, 256), maximumPages - this.bytes / pageBytes);
    if (generous < pages) return false;
    try {
      this.memory.grow(generous);
    } catch {
      return false;
    }
    this.#view();
    return true;
  }

  #view(): void {
    const { buffer } = this.memory;
    this.i32 = new Int32Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.u16 = new Uint16Array(buffer);
    this.u8 = new Uint8Array(buffer);
    this.f32 = new Float32Array(buffer);
    this.f64 = new Float64Array(buffer);
    this.u64 = new BigUint64Array(buffer);
  }
}
