/**
 * What GPU tests share. The device is opened once per process: `cuda:0`, or what LLCUDA_TEST_DEVICE names, such as
 * `sim:sm_80`. Without one, `describeGpu` registers its tests as skipped, and the reason is printed.
 * LLCUDA_REQUIRE_GPU=1 turns a missing device into a failure (scripts/test-gpu.ts).
 */
import { afterAll, describe } from "vitest";
import type { DType, HostArray } from "../../src/base/dtype.ts";
import { DeviceError, LibraryError } from "../../src/base/errors.ts";
import { type DevicePtr, ptrAdd } from "../../src/driver/api.ts";
import type { Device } from "../../src/driver/device.ts";
import type { DeviceBuffer } from "../../src/driver/memory.ts";
import * as driver from "../../src/driver/open.ts";
import { SimProvider } from "../../src/sim/provider.ts";
import { toNumbers } from "./numerics.ts";

export * from "./numerics.ts";

driver.registerDevices(new SimProvider());

function open(): { device: Device } | { reason: string } {
  try {
    return { device: driver.openDevice(process.env.LLCUDA_TEST_DEVICE ?? "cuda:0") };
  } catch (error) {
    const missing = error instanceof DeviceError || error instanceof LibraryError;
    if (!missing || process.env.LLCUDA_REQUIRE_GPU === "1") throw error;
    return { reason: error.message };
  }
}

const opened = open();

/** The device under test, or undefined where there is none. */
export const gpu: Device | undefined = "device" in opened ? opened.device : undefined;
/** Why there is no GPU. */
export const gpuMissing: string | undefined = "reason" in opened ? opened.reason : undefined;
if (gpuMissing) console.log(`GPU tests are skipped: ${gpuMissing}`);

const held = new Set<DeviceBuffer>();

/**
 * A suite that needs a GPU. `define` runs also where there is none, to name the tests that are skipped: touch `device`
 * only inside tests and hooks. Memory from the functions below is freed at the end of the suite.
 */
export function describeGpu(name: string, define: (device: Device) => void): void {
  const body = (): void => {
    define(gpu as Device);
    afterAll(() => {
      for (const buffer of held) buffer.dispose();
      held.clear();
    });
  };
  if (gpu) describe(name, body);
  else describe.skip(`${name} [skipped: no GPU]`, body);
}

function hold(buffer: DeviceBuffer): DeviceBuffer {
  held.add(buffer);
  return buffer;
}

function bytesOf(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** Device memory of at least one byte, not initialized. */
export function allocate(device: Device, bytes: number): DevicePtr {
  return hold(device.allocate(Math.max(1, bytes))).ptr;
}

/** Writes host bytes to device memory, and waits. */
export function write(device: Device, dst: DevicePtr, array: ArrayBufferView): void {
  if (array.byteLength === 0) return;
  const staging = device.allocatePinned(array.byteLength);
  bytesOf(new Uint8Array(staging.buffer, 0, array.byteLength)).set(bytesOf(array));
  device.stream.copyToDevice(dst, staging, 0, array.byteLength);
  device.stream.synchronize();
  staging.dispose();
}

/** A copy of `array` on the device. */
export function upload(device: Device, array: ArrayBufferView): DevicePtr {
  const ptr = allocate(device, array.byteLength);
  write(device, ptr, array);
  return ptr;
}

/** `count` elements from device memory, after all work on the main stream. */
export function download(device: Device, src: DevicePtr, dtype: DType, count: number): HostArray {
  const bytes = count * dtype.bytes;
  const out = dtype.array(count);
  if (bytes === 0) return out;
  const staging = device.allocatePinned(bytes);
  device.stream.copyToHost(staging, 0, src, bytes);
  device.stream.synchronize();
  bytesOf(out).set(new Uint8Array(staging.buffer, 0, bytes));
  staging.dispose();
  return out;
}

/** Fills memory with 0x7fff7fff: NaN in f32, f16 and bf16, a large number in the integer types. `bytes` is a multiple of 4. */
export function poison(device: Device, ptr: DevicePtr, bytes: number): void {
  if (bytes > 0) device.stream.fill32(ptr, 0x7fff7fff, bytes / 4);
}

const guardBytes = 256;
const guardByte = 0xa5;

/** An output under test: poisoned, with canaries on both sides. */
export interface Output {
  readonly ptr: DevicePtr;
  readonly count: number;
  /** The elements as stored. Throws when a canary was overwritten. */
  stored(): HostArray;
  /** The same as numbers. */
  numbers(): Float64Array;
}

/** `initial` replaces the poison, for operations that update in place. */
export function output(device: Device, dtype: DType, count: number, initial?: HostArray): Output {
  const bytes = count * dtype.bytes;
  const padded = Math.ceil(bytes / 4) * 4;
  const base = allocate(device, guardBytes + padded + guardBytes);
  const ptr = ptrAdd(base, guardBytes);
  poison(device, ptr, padded);
  device.stream.fill8(base, guardByte, guardBytes);
  device.stream.fill8(ptrAdd(ptr, bytes), guardByte, guardBytes);
  if (initial) write(device, ptr, initial);
  const stored = (): HostArray => {
    checkGuard(device, base, "before");
    checkGuard(device, ptrAdd(ptr, bytes), "after");
    return download(device, ptr, dtype, count);
  };
  return { ptr, count, stored, numbers: () => toNumbers(dtype, stored()) };
}

const byte = { bytes: 1, array: (n: number) => new Uint8Array(n) } as DType;

function checkGuard(device: Device, ptr: DevicePtr, side: string): void {
  const found = download(device, ptr, byte, guardBytes) as Uint8Array;
  const at = found.findIndex((b) => b !== guardByte);
  if (at >= 0) throw new Error(`memory ${side} the output was overwritten, first at byte ${at} of the canary`);
}
