import type { Device } from "./device.ts";

/**
 * Opens a device by name: `cuda`, `cuda:1`, later `sim`, `sim:sm_80`. Without a name: LLCUDA_DEVICE, else the first GPU.
 * The same name gives the same Device until it is disposed. Throws DeviceError that says what is missing and what to do.
 */
export declare function openDevice(name?: string): Device;

/** What can be opened, without opening it. */
export interface DeviceListing {
  readonly name: string;
  readonly description: string;
}
export declare function listDevices(): DeviceListing[];
