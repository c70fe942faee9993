import type { HostArray } from "../base/dtype.ts";
import { StateError } from "../base/errors.ts";
import { type DevicePtr, ptrAdd } from "../driver/api.ts";
import type { Device } from "../driver/device.ts";

/** Bytes that one copy moves through host memory of our own: enough for full bus speed, little enough to hold twice. */
const chunkBytes = 16 * 1024 * 1024;

/** Copies `data` to `dst` in the order of the device's stream; `data` may change as soon as this returns. */
export function upload(device: Device, dst: DevicePtr, data: HostArray): void {
  refuseCapture(device, "copied to");
  const source = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  eachChunk(device, source.byteLength, (block, offset, bytes) => {
    new Uint8Array(block.buffer).set(source.subarray(offset, offset + bytes));
    device.api.copyToDevice(ptrAdd(dst, offset), block, 0, bytes, device.stream.handle);
    // Memory that is not page-locked may be read until the copy ends, and the next chunk goes into the same block.
    device.stream.synchronize();
  });
}

/** Waits for the device's stream and copies from `src` until `data` is full. */
export function download(device: Device, data: HostArray, src: DevicePtr): void {
  refuseCapture(device, "read from");
  const target = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  eachChunk(device, target.byteLength, (block, offset, bytes) => {
    device.api.copyToHost(block, 0, ptrAdd(src, offset), bytes, device.stream.handle);
    device.stream.synchronize();
    target.set(new Uint8Array(block.buffer, 0, bytes), offset);
  });
}

function eachChunk(
  device: Device,
  total: number,
  copy: (block: ReturnType<Device["api"]["scratch"]>, offset: number, bytes: number) => void,
): void {
  if (total === 0) return;
  device.makeCurrent();
  const block = device.api.scratch(Math.min(total, chunkBytes));
  for (let offset = 0; offset < total; offset += chunkBytes) copy(block, offset, Math.min(chunkBytes, total - offset));
}

function refuseCapture(device: Device, what: string): void {
  if (!device.capturing) return;
  throw new StateError(
    `${device.name}: host data cannot be ${what} the device during a capture; do it before, or copy through pinned memory with stream.copyToDevice()`,
  );
}
