import { CudaError, OutOfMemoryError } from "../../src/base/errors.ts";
import type { DevicePtr } from "../../src/driver/api.ts";

interface Allocation {
  readonly ptr: DevicePtr;
  readonly bytes: number;
  /** Made when first touched, so that tests may allocate gigabytes. */
  data: Uint8Array | undefined;
}

/** Addresses are handed out once, so that a use after free is always an access outside of everything. */
let nextAddress = 0x7f00_0000_0000n;
const pageBytes = 2 * 1024 * 1024;

/** The memory of one fake device: accesses outside of an allocation throw, as they would end a context. */
export class FakeMemory {
  readonly totalBytes: number;
  /** How often the driver's allocator was called. */
  allocations = 0;
  readonly #live = new Map<DevicePtr, Allocation>();
  #usedBytes = 0;

  constructor(totalBytes: number) {
    this.totalBytes = totalBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  get freeBytes(): number {
    return this.totalBytes - this.#usedBytes;
  }

  get liveAllocations(): number {
    return this.#live.size;
  }

  allocate(bytes: number): DevicePtr {
    this.allocations++;
    if (bytes <= 0) throw new CudaError("cuMemAlloc_v2", 1, "CUDA_ERROR_INVALID_VALUE", "cuMemAlloc_v2: 0 bytes");
    if (bytes > this.freeBytes) {
      throw new OutOfMemoryError(`fake device: ${bytes} bytes wanted, ${this.freeBytes} free`, bytes, this.freeBytes);
    }
    const ptr = nextAddress as DevicePtr;
    nextAddress += BigInt(Math.ceil(bytes / pageBytes) * pageBytes + pageBytes);
    this.#live.set(ptr, { ptr, bytes, data: undefined });
    this.#usedBytes += bytes;
    return ptr;
  }

  free(ptr: DevicePtr): void {
    const allocation = this.#live.get(ptr);
    if (!allocation) throw new CudaError("cuMemFree_v2", 1, "CUDA_ERROR_INVALID_VALUE", `cuMemFree_v2: ${ptr}`);
    this.#live.delete(ptr);
    this.#usedBytes -= allocation.bytes;
  }

  owns(ptr: DevicePtr): boolean {
    return this.#find(ptr, 0) !== undefined;
  }

  /** The bytes at an address, for reading and writing. Throws when they are not all of one allocation. */
  bytes(ptr: DevicePtr, length: number): Uint8Array {
    const allocation = this.#find(ptr, length);
    if (!allocation) {
      throw new CudaError(
        "access",
        700,
        "CUDA_ERROR_ILLEGAL_ADDRESS",
        `access to ${length} bytes at ${ptr.toString(16)}`,
      );
    }
    allocation.data ??= new Uint8Array(allocation.bytes);
    const offset = Number(ptr - allocation.ptr);
    return allocation.data.subarray(offset, offset + length);
  }

  #find(ptr: DevicePtr, length: number): Allocation | undefined {
    for (const allocation of this.#live.values()) {
      if (ptr >= allocation.ptr && ptr + BigInt(length) <= allocation.ptr + BigInt(allocation.bytes)) return allocation;
    }
    return undefined;
  }
}
