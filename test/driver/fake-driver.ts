import { CudaApi } from "../../src/driver/cuda/api.ts";
import type { FfiEngine, NativeLibrary } from "../../src/ffi/engine.ts";
import { NativeStub } from "../support/native.ts";

/** test/driver/fake-libcuda.c, compiled and opened, with its controls. */
export class FakeDriver {
  readonly engine: FfiEngine;
  readonly library: NativeLibrary;
  readonly #stub = new NativeStub();

  /** `driver`: the CUDA version whose symbols it has. */
  constructor(engine: FfiEngine, options: { driver?: number } = {}) {
    this.engine = engine;
    const driver = options.driver ?? 13000;
    this.library = engine.open(this.#stub.build("driver/fake-libcuda.c", `libfake-${driver}.so`, [`DRIVER=${driver}`]));
  }

  api(): CudaApi {
    return new CudaApi({ engine: this.engine, library: this.library });
  }

  version(version: number): void {
    this.library.bind("fake_version", "void", ["i32"])!(version);
  }

  devices(count: number): void {
    this.library.bind("fake_devices", "void", ["i32"])!(count);
  }

  capability(capability: number): void {
    this.library.bind("fake_capability", "void", ["i32"])!(capability);
  }

  /** Makes `symbol` return `status` while `body` runs. */
  failing<T>(symbol: string, status: number, body: () => T): T {
    const fail = this.library.bind("fake_fail", "void", ["ptr", "i32"])!;
    fail(this.#string(symbol), status);
    try {
      return body();
    } finally {
      fail(this.#string(""), 0);
    }
  }

  jitLog(text: string): void {
    this.library.bind("fake_jit_log", "void", ["ptr"])!(this.#string(text));
  }

  /** What the last call of interest recorded, by slot. */
  number(slot: number): bigint {
    return this.#memory("fake_numbers", 256).getBigUint64(slot * 8, true);
  }

  text(): string {
    return this.engine.readString(this.library.bind("fake_text", "ptr", [])!() as bigint);
  }

  launched() {
    const m = this.#memory("fake_launched", 120);
    const u32 = (i: number): number => m.getUint32(4 * i, true);
    const argBytes = u32(7);
    return {
      grid: [u32(0), u32(1), u32(2)],
      block: [u32(3), u32(4), u32(5)],
      sharedBytes: u32(6),
      argBytes,
      attribute: u32(8),
      attributeValue: u32(9),
      fn: m.getBigUint64(40, true),
      stream: m.getBigUint64(48, true),
      args: [...new Uint8Array(m.buffer, m.byteOffset + 56, argBytes)],
    };
  }

  dispose(): void {
    this.#stub.remove();
  }

  #memory(symbol: string, bytes: number): DataView {
    return new DataView(this.engine.view(this.library.bind(symbol, "ptr", [])!() as bigint, bytes));
  }

  #string(text: string): bigint {
    const block = this.engine.alloc(text.length + 1);
    new TextEncoder().encodeInto(text, new Uint8Array(block.buffer));
    this.#strings.push(block.buffer);
    return block.address;
  }
  /** Keeps what was passed alive. */
  readonly #strings: ArrayBuffer[] = [];
}
