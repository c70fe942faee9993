import type { ByteSource } from "../../../src/formats/gguf/cursor.ts";

/** Writes what it is told, true or not: the files that a writer would refuse to write. */
export class RawGguf {
  readonly #parts: Buffer[] = [];

  static header(options: { magic?: string; version?: number; tensors?: bigint; entries?: bigint } = {}): RawGguf {
    const { magic = "GGUF", version = 3, tensors = 0n, entries = 0n } = options;
    return new RawGguf().raw(Buffer.from(magic)).u32(version).u64(tensors).u64(entries);
  }

  raw(bytes: Uint8Array): this {
    this.#parts.push(Buffer.from(bytes));
    return this;
  }

  u32(value: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    return this.raw(bytes);
  }

  u64(value: bigint | number): this {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)));
    return this.raw(bytes);
  }

  text(text: string | Uint8Array): this {
    const bytes = Buffer.from(text);
    return this.u64(bytes.length).raw(bytes);
  }

  /** A metadata entry of type uint32. */
  entry(key: string, value: number): this {
    return this.text(key).u32(4).u32(value);
  }

  /** `dims` in the file's order, the contiguous one first. */
  tensor(name: string, dims: readonly (bigint | number)[], type: number, offset: bigint | number): this {
    this.text(name).u32(dims.length);
    for (const dim of dims) this.u64(dim);
    return this.u32(type).u64(offset);
  }

  /** Pads to a multiple of 32 and adds room for tensors. */
  data(count: number): this {
    const length = this.bytes().length;
    return this.raw(Buffer.alloc(Math.ceil(length / 32) * 32 - length + count));
  }

  bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }

  source(): ByteSource {
    return inMemory(this.bytes());
  }
}

export function inMemory(bytes: Uint8Array, path = "test.gguf"): ByteSource {
  return {
    path,
    sizeBytes: bytes.length,
    readSync: (target, position) => {
      if (position + target.length > bytes.length) throw new Error(`a read beyond the end, at ${position}`);
      target.set(bytes.subarray(position, position + target.length));
    },
  };
}
