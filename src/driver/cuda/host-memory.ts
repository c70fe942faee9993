import type { FfiEngine } from "../../ffi/engine.ts";
import type { DevicePtr } from "../../ffi/handles.ts";
import type { HostBlock } from "../api.ts";

/**
 * Host memory for launch arguments, with the `extra` array through which cuLaunchKernel takes them: prepared once, so
 * that a launch writes one number and allocates nothing.
 */
export class ArgumentBlock implements HostBlock {
  readonly address: bigint;
  readonly buffer: ArrayBuffer;
  readonly devicePtr = undefined;
  /** The address of `{ BUFFER_POINTER, address, BUFFER_SIZE, &size, END }`. */
  readonly extra: bigint;
  /** The address of an array of one pointer a parameter, when their offsets were given; otherwise 0n. */
  readonly parameters: bigint;
  /** Keeps `parameters` alive. */
  readonly #parameterBuffer: ArrayBuffer | undefined;
  /** The low and high half of the size_t that `extra` points to. */
  readonly #size: Uint32Array;
  /** Keeps `extra` alive. */
  readonly #extraBuffer: ArrayBuffer;

  constructor(engine: FfiEngine, bytes: number, parameterOffsets: readonly number[] = []) {
    const block = engine.alloc(bytes);
    this.address = block.address;
    this.buffer = block.buffer;
    const extra = engine.alloc(48);
    this.extra = extra.address;
    this.#extraBuffer = extra.buffer;
    const sizeOffset = 40;
    const slots = new BigUint64Array(this.#extraBuffer, 0, 5);
    // CU_LAUNCH_PARAM_BUFFER_POINTER = 1, CU_LAUNCH_PARAM_BUFFER_SIZE = 2, CU_LAUNCH_PARAM_END = 0 (cuda.h).
    slots.set([1n, block.address, 2n, extra.address + BigInt(sizeOffset), 0n]);
    this.#size = new Uint32Array(this.#extraBuffer, sizeOffset, 2);
    const count = parameterOffsets.length;
    const parameters = count > 0 ? engine.alloc(count * 8) : undefined;
    this.parameters = parameters?.address ?? 0n;
    this.#parameterBuffer = parameters?.buffer;
    if (this.#parameterBuffer) {
      new BigUint64Array(this.#parameterBuffer, 0, count).set(parameterOffsets.map((at) => block.address + BigInt(at)));
    }
  }

  setArgumentBytes(bytes: number): void {
    this.#size[0] = bytes;
  }
}

/** Page-locked memory of the driver, seen as an ArrayBuffer and mapped into the device's address space. */
export class PinnedBlock implements HostBlock {
  readonly address: bigint;
  readonly buffer: ArrayBuffer;
  readonly devicePtr: DevicePtr;

  constructor(address: bigint, buffer: ArrayBuffer, devicePtr: DevicePtr) {
    this.address = address;
    this.buffer = buffer;
    this.devicePtr = devicePtr;
  }
}
